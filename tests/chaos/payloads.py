"""What attackers put into data, templates, paths and addresses."""

from __future__ import annotations

from itertools import product

_EXPRESSIONS = [
    "7*7", "config", "self.__init__.__globals__", "''.__class__.__mro__[1].__subclasses__()", "request.application",
    "cycler.__init__.__globals__.os.popen('id').read()", "__import__('os').system('id')", "text.__class__",
    "lipsum.__globals__['os']", "open('/etc/passwd').read()", "cfg.api_key", "endpoint.api_key", "0",
    "text!r:>9999999",
    "text.format(text=text)", "range(10**9)|list", "T(java.lang.Runtime).getRuntime().exec('id')",
    "constructor.constructor",
    "system('id')", "'a'*300000000",
]  # fmt: skip
_MARKS = ["{{%s}}", "${%s}", "<%%= %s %%>", "#{%s}", "{%s}", "%%(%s)s", "{{{%s}}}", "{%% print %s %%}", "`%s`", "*{%s}"]

#: 200 texts that some template language runs.
VALUES = [mark % expression for expression, mark in product(_EXPRESSIONS, _MARKS)]
#: 50 templates of such texts beside a column.
TEMPLATES = [f"{{text}} {value}" for value in VALUES[::4]]

#: Names and paths that leave their place, or are none.
PATHS = [
    "../outside", "../../outside", "..", ".", "./../outside", "a/../../outside", "/absolute", "//double",
    "\\..\\outside",
    "..\\..\\outside", "C:\\outside", "\\\\host\\share", "%2e%2e%2foutside", "..%2foutside", "%252e%252e%252foutside",
    "..%c0%afoutside", "....//outside", "..;/outside", "~root/outside", "~/outside", "$HOME/outside", "`id`", "$(id)",
    "|id", ";id", "a\nb", "a\rb", "a\0b", "\0", "CON", "nul.txt", "a" * 300, "-rf", "--help", "*", "?", "[a]", "a b",
    "\u202egnp.exe", "file:///outside",
]  # fmt: skip

#: Addresses that no key may go to.
URLS = [
    "file:///etc/passwd", "ftp://host/v1", "gopher://127.0.0.1:6379/_x", "dict://127.0.0.1:11211/",
    "javascript:alert(1)",
    "data:text/plain,x", "ldap://host/", "jar:http://host!/", "HTTP+UNIX://%2Fvar%2Frun%2Fdocker.sock/v1",
    "unix:/var/run/d.sock",
    "//host/v1", "host/v1", "http://", "http:///v1", "http:host/v1", "http://user:word@127.0.0.1/v1",
    "http://user@127.0.0.1/v1",
    "https://api.openai.com@127.0.0.1/v1", "http://127.0.0.1:80@example.com/v1",
    "http://169.254.169.254/latest/meta-data",
    "http://169.254.169.254./v1", "http://[::ffff:169.254.169.254]/v1", "http://[::ffff:a9fe:a9fe]/v1",
    "http://[fd00:ec2::254]/v1",
    "http://metadata.google.internal/v1", "http://METADATA.google.internal./v1", "http://metadata/v1",
    "http://169.254.170.2/v1",
    "http://100.100.100.200/v1", "http://2852039166/v1", "http://0xa9fea9fe/v1", "http://0251.0376.0251.0376/v1",
    "http://169.254.43518/v1", "http://example.com/v1", "http://127.0.0.1.nip.io/v1",
    "http://localhost.example.com/v1",
    "http://127.0.0.1/v1?key=x", "http://127.0.0.1/v1#x", "http://127.0.0.1/v1\r\nHost: evil",
    "http://127.0.0.1\\@evil/v1",
    "http://127.0.0.1:99999/v1", "http://127.0.0.1:x/v1", "http://exa mple/v1", "http://ⓔxample.com/v1",
    "http://[::1/v1",
]  # fmt: skip

#: Texts of YAML that make objects or run something.
YAML = [
    "!!python/object/apply:os.system ['touch outside']", "!!python/object/new:os.system ['touch outside']",
    "!!python/name:os.system", "!!python/module:os", "!!python/object:os.stat_result {}", "!!python/tuple [1, 2]",
    "!!python/object/apply:subprocess.check_output [[touch, outside]]", "!!python/object/apply:builtins.eval ['1']",
    "!!python/bytes aGk=", "!!python/complex 1+1j", "!<tag:yaml.org,2002:python/object/apply:os.system> ['id']",
    "!ruby/object:X {}",
]  # fmt: skip

#: What steers a terminal, or starts a line of its own in a log.
TERMINAL = [
    "\x1b[31mred", "\x1b]52;c;aGk=\x07", "\x1b]0;title\x07", "\x1b[2J\x1b[H", "\x9b31m", "\x9d0;t\x9c", "\x07",
    "\x08\x08\x08",
    "a\rb", "a\n2026-01-01 ERROR forged", "\x7f", "\u202ereversed", "\u2028line", "\x85line", "\x00",
]  # fmt: skip
