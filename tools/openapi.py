"""Print the OpenAPI document of the client API, with every feature on, as a running homeserver would serve it."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "modules"))

from fake_api import FakeHomeserver

from synapse_super_app.http.resource import ApiResource

homeserver = FakeHomeserver("hs1.test", config={"features": {"recovery": True}})
homeserver.start()
resource = next(each for each in homeserver.api.web_resources.values() if isinstance(each, ApiResource))
print(json.dumps(resource.document, indent=1, sort_keys=True))
