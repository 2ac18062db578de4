"""${message.replace("\\", "\\\\").replace('"', "'")}."""

from alembic import op

revision = "${up_revision}"
down_revision = ${repr(down_revision).replace("'", '"')}
branch_labels = ${repr(branch_labels).replace("'", '"')}
depends_on = ${repr(depends_on).replace("'", '"')}


def upgrade() -> None:
    op.execute(
        r"""
        ${"SELECT 1" if isinstance(down_revision, tuple) else "TODO: SQL that applies the change"}
        """
    )


def downgrade() -> None:
    op.execute(
        r"""
        ${"SELECT 1" if isinstance(down_revision, tuple) else "TODO: SQL that undoes the change"}
        """
    )
