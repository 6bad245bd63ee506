"""Stands in where no database is named; any use of it says what to do."""
