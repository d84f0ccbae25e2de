"""Jobs use the interpreter and the code that snakemake was started with."""

import os
import sys
from pathlib import Path


def use_this_interpreter(repository: Path) -> None:
    """Put this interpreter first on the PATH of jobs, and our packages on its path.

    So ``python -m units.tokenize`` in a rule works without an activated environment, and from
    whatever working directory snakemake was started in. What else is on PYTHONPATH comes after, for
    encoders of one's own (`units.custom`).
    """
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    paths = [str(repository), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, paths)))
