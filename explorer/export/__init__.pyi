from .describe.commands import make_commands as make_commands
from .describe.push import Destination as Destination
from .describe.recipe import RECIPE as RECIPE, Recipe as Recipe, read_recipe as read_recipe
from .draft import Drafting as Drafting
from .formats import FORMATS as FORMATS, WRITTEN_AS_TEXT as WRITTEN_AS_TEXT
from .measurements import describe_proof as describe_proof, tell_text as tell_text
from .planners import plan_export as plan_export
from .timings import Benchmark as Benchmark, describe_timings as describe_timings
from .write import Exported as Exported, export as export
