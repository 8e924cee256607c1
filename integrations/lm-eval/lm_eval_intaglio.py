"""Adds the model `intaglio` to lm-eval's table. Imported at every start of Python: imports nothing itself."""

import sys

MODELS = "lm_eval.models"  # whose import fills the table
MODEL, CLASS = "intaglio", "intaglio.evaluation.harness:IntaglioLM"


class Finder:
    """Lets others find every module; to that of lm-eval's models it adds ours when it has run."""

    def find_spec(self, name, path=None, target=None):
        if name != MODELS:
            return None
        import importlib.util

        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _then_register(spec.loader.exec_module)
        return spec


def _then_register(exec_module):
    def exec_and_register(module):
        exec_module(module)
        register()

    return exec_and_register


def register():
    """The name only: the class is imported when a model is asked for. Versions without this table go without."""
    try:
        from lm_eval.api.registry import model_registry
    except ImportError:
        return
    if MODEL not in model_registry:
        model_registry.register(MODEL, target=CLASS)


sys.meta_path.insert(0, Finder())
