/* sandbox_py.c -- the two Python programs of the sandbox. */
#include "eval/sandbox_py.h"

/* clang-format off */

#define VALUES \
"import builtins, itertools, json, os, resource\n" \
"DEEP, ITEMS, LINE = 100, 100000, 1 << 24\n" \
"VIEWS = (type({}.keys()), type({}.values()), type({}.items()))\n" \
"class Opaque:\n" \
"    pass\n" \
"def enc(v, d=0):\n" \
"    if d > DEEP: raise ValueError('nested too deep')\n" \
"    d += 1\n" \
"    if isinstance(v, Opaque): raise TypeError('no plain data')\n" \
"    if v is None or v is True or v is False: return v\n" \
"    if isinstance(v, str): return str.__str__(v)\n" \
"    if isinstance(v, int): return {'i': hex(int(v))}\n" \
"    if isinstance(v, float): return {'f': float.hex(v)}\n" \
"    if isinstance(v, complex): return {'c': [x.hex() for x in (v.real, v.imag)]}\n" \
"    if isinstance(v, (bytes, bytearray)): return {'b': v.hex()}\n" \
"    if isinstance(v, list): return [enc(x, d) for x in v]\n" \
"    if isinstance(v, tuple): return {'t': [enc(x, d) for x in v]}\n" \
"    if isinstance(v, set): return {'s': [enc(x, d) for x in v]}\n" \
"    if isinstance(v, frozenset): return {'z': [enc(x, d) for x in v]}\n" \
"    if isinstance(v, range): return {'r': [hex(v.start), hex(v.stop), hex(v.step)]}\n" \
"    if isinstance(v, dict): return {'d': [[enc(k, d), enc(x, d)] for k, x in v.items()]}\n" \
"    if hasattr(v, '__next__') or type(v) in VIEWS:\n" \
"        items = list(itertools.islice(iter(v), ITEMS + 1))\n" \
"        if len(items) > ITEMS: raise ValueError('iterator too long')\n" \
"        return {'g': [enc(x, d) for x in items]}\n" \
"    return {'o': type(v).__name__}\n" \
"def dec(v):\n" \
"    if v is None or v is True or v is False or type(v) is str: return v\n" \
"    if type(v) is list: return [dec(x) for x in v]\n" \
"    (k, x), = v.items()\n" \
"    if k == 'i': return int(x, 16)\n" \
"    if k == 'f': return float.fromhex(x)\n" \
"    if k == 'c': return complex(float.fromhex(x[0]), float.fromhex(x[1]))\n" \
"    if k == 'b': return bytes.fromhex(x)\n" \
"    if k == 't': return tuple(dec(y) for y in x)\n" \
"    if k == 's': return set(dec(y) for y in x)\n" \
"    if k == 'z': return frozenset(dec(y) for y in x)\n" \
"    if k == 'r': return range(*(int(y, 16) for y in x))\n" \
"    if k == 'd': return {dec(a): dec(b) for a, b in x}\n" \
"    if k == 'g': return iter([dec(y) for y in x])\n" \
"    if k == 'o': return Opaque()\n" \
"    raise ValueError('unknown value')\n" \
"rd, wr = os.fdopen(3, 'rb'), os.fdopen(4, 'wb', 0)\n" \
"def send(v):\n" \
"    data = json.dumps(v).encode() + b'\\n'\n" \
"    while data: data = data[wr.write(data):]\n" \
"def name(e):\n" \
"    text = type(e).__name__[:60]\n" \
"    return text if text.isascii() and text.isalnum() else 'Exception'\n" \
"resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))\n"

/* The program's side. No promise of its own matters: whatever it says are but answers to calls. */
const char sp_sandbox_py_program[] = VALUES
"text = open(0, 'rb').read()\n"
"send({'up': 1})\n"
"space, entry = {}, None\n"
"for line in rd:\n"
"    try:\n"
"        request = json.loads(line)\n"
"        if 'load' in request:\n"
"            entry = request['load']\n"
"            exec(compile(text, 'program', 'exec'), space)\n"
"            reply = {'ok': callable(space[entry])}\n"
"        else:\n"
"            args, kwargs = request['call']\n"
"            reply = {'ok': enc(space[entry](*dec(args), **dec(kwargs)))}\n"
"    except BaseException as e:\n"
"        reply = {'raised': name(e)}\n"
"    send(reply)\n";

/* The tests' side. Input: {"entry", "nonce", "prompt", "test"}. */
const char sp_sandbox_py_tests[] = VALUES
"task = json.load(open(0, 'rb'))\n"
"def verdict(text):\n"
"    os.write(5, ''.join(c if ' ' <= c <= '~' else '?' for c in text)[:120].encode() + b'\\n')\n"
"def leave(text):\n"
"    verdict(text)\n"
"    os._exit(0)\n"
"def receive():\n"
"    try:\n"
"        line = rd.readline(LINE)\n"
"        if not line: leave('died exited')\n"
"        reply = json.loads(line)\n"
"        (kind, value), = reply.items()\n"
"        if kind == 'ok': value = dec(value)\n"
"        elif kind == 'raised' and type(value) is str: pass\n"
"        elif kind != 'up': raise ValueError\n"
"        return kind, value\n"
"    except Exception: leave('died protocol')\n"
"def request(v):\n"
"    try: send(v)\n"
"    except OSError: leave('died exited')\n"
"def ask(v):\n"
"    request(v)\n"
"    kind, value = receive()\n"
"    if kind == 'raised':\n"
"        raised = getattr(builtins, value, None)\n"
"        if not isinstance(raised, type) or not issubclass(raised, Exception):\n"
"            raised = RuntimeError\n"
"        if raised is StopIteration: raised = RuntimeError\n"
"        try: e = raised('in the program')\n"
"        except TypeError: e = RuntimeError(value)\n"
"        raise e\n"
"    return value\n"
"def candidate(*args, **kwargs):\n"
"    call = [enc(list(args)), enc(kwargs)]\n"
"    if '\"o\":' in json.dumps(call): leave('broken an argument of the test is no plain data')\n"
"    return ask({'call': call})\n"
"if receive() != ('up', 1): leave('died protocol')\n"
"verdict('ready')\n"
"space = {}\n"
"try: exec(compile(task['prompt'], 'prompt', 'exec'), space)\n"
"except BaseException as e: leave('broken the prompt raises ' + name(e))\n"
"try: tests = compile(task['test'], 'test', 'exec')\n"
"except BaseException as e: leave('broken the test raises ' + name(e))\n"
"try:\n"
"    if ask({'load': task['entry']}) is not True: raise TypeError\n"
"    space[task['entry']] = candidate\n"
"    exec(tests, space)\n"
"    if not callable(space.get('check')): leave('broken the test defines no check')\n"
"    space['check'](candidate)\n"
"except BaseException as e: leave('wrong ' + name(e))\n"
"leave('nonce ' + task['nonce'])\n";
