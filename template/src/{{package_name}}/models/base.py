"""The base of your mapped classes.

    class Customer(Base):
        __tablename__ = "customers"

        id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
        email: Mapped[str] = mapped_column(unique=True)
        orders: Mapped[list["Order"]] = relationship(back_populates="customer")

https://docs.sqlalchemy.org/en/20/orm/quickstart.html
"""

from datetime import datetime
from functools import partial

from sqlalchemy import DateTime, MetaData, Text, orm
from sqlalchemy.orm import DeclarativeBase

NAMES = {
    "pk": "%(table_name)s_pkey",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "ck": "%(table_name)s_%(constraint_name)s_check",
}
"""The names that PostgreSQL itself gives. A migration needs them to remove something."""


class Base(DeclarativeBase):
    """Text has no limit, and times have a time zone."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {str: Text, datetime: DateTime(timezone=True)}


relationship = partial(orm.relationship, lazy="raise")
"""SQLAlchemy's, without loading on access: no `await` could stand there. A query says what it
loads: `select(Customer).options(selectinload(Customer.orders))`."""
