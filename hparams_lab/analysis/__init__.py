"""What the results say: filters, tables, exports, importance, the report, and pictures of predictions."""
