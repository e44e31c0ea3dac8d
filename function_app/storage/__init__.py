"""The arrangement of the app's storage account, on the blob port."""
