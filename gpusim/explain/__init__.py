"""Why tokens waited: where their time went, and what would change it, by runs of changed scenarios."""
