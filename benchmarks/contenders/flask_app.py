"""Flask with the clients that block, on gunicorn's threads."""

from typing import Any

from flask import Flask

from . import blocking

app = Flask(__name__)


@app.get("/json")
def constant() -> dict[str, Any]:
    """Return a constant."""
    return {"hello": "world", "number": 42}


app.get("/postgres")(blocking.row)
app.get("/mongo")(blocking.document)
app.get("/redis")(blocking.value)
app.get("/upstream")(blocking.answer)
app.get("/all")(blocking.everything)
