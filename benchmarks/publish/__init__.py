"""The results of a run where they are read: the tables and charts of the documentation, made from files of results."""
