"""The endpoints of a service's examples, served with equal duties, and with none.

    GET /notes/<id>, POST /notes, GET /notes?limit=20, GET /counters/<name>, GET /json

`service` is a generated service, `fastapi_app` does on FastAPI what that does, and `quart_app` is
Quart without any of it. `python -m benchmarks.equal` compares them.
"""
