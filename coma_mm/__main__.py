"""`python -m coma_mm COMMAND` is `coma-mm COMMAND`."""
from coma_mm.commands import main

main()
