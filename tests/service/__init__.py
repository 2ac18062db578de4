"""Tests of the code that the template owns. They run inside rendered services named Orders.

A word in the path of a file that names a backend or a feature, such as `redis` in test_redis.py,
says that the file needs it: see tests/test_services.py.
"""
