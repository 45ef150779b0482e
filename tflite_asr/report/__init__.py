"""What people read: terminal tables and model cards."""
