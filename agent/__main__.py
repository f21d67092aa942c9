"""Start the agent: `python -m ovn_metadata.agent`."""

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main())
