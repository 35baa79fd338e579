"""Holdfast: self-hosted, policy-driven backup with an Azure Backup compatible API."""

__version__ = "0.1.0"
