"""What lies on disk: for every kind of file its layout, its writer and its reader in one module."""
