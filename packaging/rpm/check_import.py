"""Import each of our modules in $PYTHONPATH, as Fedora's macro does.

The macro is %pyproject_check_import.
"""

import importlib
import os
import sys
from pathlib import Path

root = Path(os.environ["PYTHONPATH"])
for path in sorted(root.glob("ovn_metadata/**/*.py")):
    name = ".".join(path.relative_to(root).with_suffix("").parts)
    if not name.endswith("__main__"):
        module = importlib.import_module(name.removesuffix(".__init__"))
        if not str(module.__file__).startswith(str(root)):
            sys.exit(f"{name} is another's, installed here: {module}")
