"""${message}."""

from alembic import op

revision = "${up_revision}"
down_revision = ${f'"{down_revision}"' if down_revision else None}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    """Apply the change."""
    op.execute(
        """
        ${upgrades if upgrades else "SELECT 1"}
        """
    )


def downgrade() -> None:
    """Take the change back."""
    op.execute(
        """
        ${downgrades if downgrades else "SELECT 1"}
        """
    )
