"""What comes out: numbers, tables and figures."""
