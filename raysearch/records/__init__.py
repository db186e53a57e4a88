"""The records of a search: its run folder, the MLflow tree, tables, pictures and the terminal."""
