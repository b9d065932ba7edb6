"""The Export page: formats by what one wants to do, and the folder that exports go to."""
