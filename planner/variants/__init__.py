"""Recipes: ONNX in, ONNX out. What judges accuracy comes in from above."""

from planner.variants.auto import auto_recipes
from planner.variants.context import Context, Recipe
from planner.variants.evaluation import Evaluation, evaluation_of
from planner.variants.make import make_variant
from planner.variants.model import bind, external_locations, read_model
from planner.variants.ranges import index_ranges
from planner.variants.recipes import recipe, recipe_names

__all__ = [
    "Context",
    "Evaluation",
    "Recipe",
    "auto_recipes",
    "bind",
    "evaluation_of",
    "external_locations",
    "index_ranges",
    "make_variant",
    "read_model",
    "recipe",
    "recipe_names",
]
