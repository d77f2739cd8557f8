"""A small shop on FastAPI: `uvicorn examples.fastapi_shop.web:api`.

web        the API. Start reading here
workflows  the Celery app, the workflow of an order, and the task that writes receipts
tables     what the shop keeps
"""
