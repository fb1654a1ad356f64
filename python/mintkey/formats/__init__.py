"""The formats of items outside of stores: JSON, DynamoDB JSON, and values that pydantic validates."""
