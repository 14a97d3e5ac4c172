"""Says whether the real `twilio` package takes a signature for that of a stream: token, URL, signature."""

import sys

from twilio.request_validator import RequestValidator

token, url, signature = sys.argv[1:]
print(RequestValidator(token).validate(url, {}, signature))
