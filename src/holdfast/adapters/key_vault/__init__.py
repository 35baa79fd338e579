"""Key vaults of a host, as ``ports/key_vault.py`` describes them."""

from holdfast.adapters.key_vault.folder import FolderKeyVault

__all__ = ["FolderKeyVault"]
