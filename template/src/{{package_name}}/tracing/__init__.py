"""Traces and metrics by OpenTelemetry. Without an endpoint, nothing is recorded.

The SDK reads more variables than those below:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from typing import Literal

from pydantic import HttpUrl
from pydantic_settings import SettingsConfigDict
from quart import Quart

from ..core.settings import EnvSettings, load


class TracingSettings(EnvSettings):
    """The variables of OpenTelemetry that decide what is sent, and where."""

    model_config = SettingsConfigDict(env_prefix="OTEL_")

    exporter_otlp_endpoint: HttpUrl | None = None
    """The address of the collector that gets traces and metrics."""

    exporter_otlp_traces_endpoint: HttpUrl | None = None
    """The address for traces, such as "http://localhost:4318/v1/traces". By default they go to the
    collector."""

    exporter_otlp_metrics_endpoint: HttpUrl | None = None
    """The address for metrics, such as "http://localhost:4318/v1/metrics". By default they go to
    the collector."""

    exporter_otlp_protocol: Literal["http/protobuf"] = "http/protobuf"
    """The protocol. Another one needs another package."""


def init_app(app: Quart) -> None:
    """Trace and measure the app, if there is an endpoint.

    Raises InvalidSettings when the environment is wrong.
    """
    settings: TracingSettings
    (settings,) = load(TracingSettings)
    traced = settings.exporter_otlp_endpoint or settings.exporter_otlp_traces_endpoint
    measured = settings.exporter_otlp_endpoint or settings.exporter_otlp_metrics_endpoint
    if traced or measured:
        # The import takes 0.2 s.
        from . import telemetry

        telemetry.init_app(app, traced=bool(traced), measured=bool(measured))
