"""SkyPilot's public catalogs of cloud machines and prices as tables of the planner's own catalog."""

from planner.catalog.skypilot.files import catalog_files
from planner.catalog.skypilot.tables import ImportedInstance, ImportedPrice, ProviderTables, provider_tables

__all__ = ["ImportedInstance", "ImportedPrice", "ProviderTables", "catalog_files", "provider_tables"]
