"""The settings of this service. Yours go here."""

from .core.settings import ServiceSettings


class Settings(ServiceSettings):
    """Each field is the environment variable of its name, in capitals.

    In a handler, `Settings.current().currency` reads the field `currency`. Describe each field in a
    docstring below it, and add it to `.env.example`.
    """
