"""The scenarios: small workflows, what their clients do, and how much may go wrong at once."""

from tests.model.scenarios.bundles import BUNDLES
from tests.model.scenarios.children import CHILDREN
from tests.model.scenarios.deadlines import DEADLINES
from tests.model.scenarios.forks import FORKS
from tests.model.scenarios.steering import STEERING
from tests.model.scenarios.steps import STEPS
from tests.model.scenarios.waits import WAITS

SCENARIOS = (*STEPS, *FORKS, *WAITS, *CHILDREN, *BUNDLES, *STEERING, *DEADLINES)
