"""How the app arranges its storage account, on the blob port."""
