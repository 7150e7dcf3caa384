"""Says what a file of settings says."""

import sys

from iniconfig import IniConfig

settings = IniConfig(sys.argv[1])
for section in settings:
    for key, value in section.items():
        print(f"{section.name}.{key} is {value}")
