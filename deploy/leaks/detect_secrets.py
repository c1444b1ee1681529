"""Keyward API keys and refresh tokens, for detect-secrets. The format: docs/key-format.md."""

import re
import zlib

from detect_secrets.plugins.base import RegexBasedDetector

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def has_checksum(key):
    number = 0
    for digit in key[-6:]:
        number = number * 62 + DIGITS.index(digit)
    return number == zlib.crc32(key[:-6].encode())


class KeywardKeyDetector(RegexBasedDetector):
    secret_type = "Keyward API key or refresh token"
    denylist = [re.compile(r"\bkwr?_[0-9A-Za-z]{71}\b")]

    def analyze_string(self, string):
        for key in super().analyze_string(string):
            if has_checksum(key):
                yield key
