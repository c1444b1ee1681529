"""A receiver's check of a webhook: the reference library of Standard Webhooks.
Reads {"secret", "headers", "body"} from standard input; exit code 1 on a refusal.
"""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

told = json.load(sys.stdin)
try:
    print(json.dumps(Webhook(told["secret"]).verify(told["body"], told["headers"])))
except WebhookVerificationError as error:
    print(json.dumps({"error": str(error)}))
    sys.exit(1)
