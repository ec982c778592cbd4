"""Broken texts and what is said of them: place, message and first help of each diagnostic."""

from __future__ import annotations

Expected = list[tuple[str, str, str]]

# Statements, as lines 2 and following of a block, indented by four.
IN_A_BLOCK: list[tuple[str, Expected]] = [
    ("y = conv(x 64)", [("2:16", "expected ',' between arguments, found '64'", "write 'x, 64'")]),
    ("y = conv(x, 64", [("3:5", "expected ')' before 'return'", "")]),
    ("y = conv(x, 64\nz = relu(y)", [("3:5", "expected ')' before 'z'", "")]),
    (
        'y = "abc',
        [
            (
                "2:9",
                'this string is not closed: expected " before the end of the line',
                'close it with " on the same line; a line break in a string is written \\n',
            )
        ],
    ),
    ("y conv(x)", [("2:7", "expected '=' after 'y', found 'conv'", "write 'y = conv…'")]),
    ("output y relu(x)", [("2:14", "expected '=' before 'relu'", "write 'output y = relu…'")]),
    ("shared f conv(_, 3)", [("2:14", "expected '=' after 'f', found 'conv'", "write 'shared f = …'")]),
    ("y = x if c else z", [("2:9", "'x if c else y' is Python's conditional", "write 'if c then x else z'")]),
    ("y = f(x if c else z, 3)", [("2:11", "'x if c else y' is Python's conditional", "write 'if c then x else z'")]),
    ("y = True", [("2:9", "'True' is Python's spelling", "write 'true'")]),
    (
        "f = None\ng = relu(x);",
        [
            ("2:9", "'None' is Python's spelling", "write 'none'"),
            ("3:16", "';' has no use: a statement ends where the next one starts", "delete it"),
        ],
    ),
    ("y = a < b < c", [("2:15", "comparisons do not chain", "write 'a < b and b < c'")]),
    ("y = a < b + 1 <= c and d", [("2:19", "comparisons do not chain", "write 'a < b + 1 and b + 1 <= c'")]),
    (
        "y = a + b -> f",
        [
            (
                "2:9",
                "a chain starts at a name, a call or a parenthesis, not at 'a + b'",
                "write '(a + b) -> f' to pass the whole on",
            )
        ],
    ),
    (
        "y = -x -> f(3)",
        [
            (
                "2:9",
                "a chain starts at a name, a call or a parenthesis, not at '-x'",
                "write '(-x) -> f(3)' to pass the whole on",
            )
        ],
    ),
    ("y = x -> f + 1", [("2:16", "'+' cannot follow a chain without parentheses", "write '(x -> f) + 1'")]),
    (
        "y = x -> f(2) * a ** b",
        [("2:19", "'*' cannot follow a chain without parentheses", "write '(x -> f(2)) * a ** b'")],
    ),
    (
        "y = a && b || !c",
        [
            ("2:11", "'&&' is not an operator", "write 'and'"),
            ("2:16", "'||' is not an operator", "write 'or'"),
            ("2:19", "'!' is not an operator", "write 'not'"),
        ],
    ),
    (
        "for x in y:\n  z = x",
        [("2:15", "a body stands in braces, not after ':'", "write '{' here and '}' at the end of the body")],
    ),
    (
        "if c:\n  z = x",
        [("2:9", "a body stands in braces, not after ':'", "write '{' here and '}' at the end of the body")],
    ),
    (
        "if c { z = 1 } else:\n  z = x",
        [("2:24", "a body stands in braces, not after ':'", "write '{' here and '}' at the end of the body")],
    ),
    ("let y = 3", [("2:5", "'let' starts no statement", "write 'y = …'")]),
    ("ouput y = 3", [("2:5", "'ouput' starts no statement", "did you mean 'output'?")]),
    ("ouput y", [("2:5", "'ouput' starts no statement", "did you mean 'output'?")]),
    ("inptu y: float32[3]", [("2:5", "'inptu' starts no statement", "did you mean 'input'?")]),
    ("retrun y", [("2:5", "'retrun' starts no statement", "did you mean 'return'?")]),
    ("elif c { }", [("2:5", "'elif' is no word of netdsl", "write 'else if'")]),
    ("if c { } elif d { }", [("2:14", "'elif' is no word of netdsl", "write 'else if'")]),
    (
        "while c { }",
        [("2:5", "'while' is no word of netdsl", "loops are written 'repeat n { … }' and 'for name in list { … }'")],
    ),
    ("// a comment here\ny = 3", [("2:5", "'//' divides, it starts no comment", "write '# a comment here'")]),
    ("y = x // the skip connection", [("2:11", "'//' divides, it starts no comment", "write '# the skip connection'")]),
    ("y = x // skip connection\nz = 3", [("2:11", "'//' divides, it starts no comment", "write '# skip connection'")]),
    ("/* hi */ y = 3", [("2:5", "'/* … */' is no comment here", "a comment starts with '#', on each of its lines")]),
    ("y = “abc”", [("2:9", "'“' is a typographic quote", 'write plain quotes: "abc"')]),
    (
        "y\xa0= x − 3",
        [
            ("2:6", "an invisible character U+00A0 (no-break space)", "write a plain space"),
            ("2:11", "'−' (minus sign) only looks like '-'", "write '-'"),
        ],
    ),
    ("in = 3", [("2:5", "'in' is a word of the language and cannot be a name", "write 'in_'")]),
    ("y = f(in=3)", [("2:11", "'in' is a word of the language and cannot be a name", "write 'in_'")]),
    ("input if: float32[3]", [("2:11", "'if' is a word of the language and cannot be a name", "write 'if_'")]),
    (
        "y = f(a=1, 2)",
        [
            (
                "2:16",
                "an argument by position cannot follow one by name",
                "move '2' before 'a=1', or give it a name as well",
            )
        ],
    ),
    ("y = f(a=1, a=2)", [("2:16", "the argument 'a' is given twice", "")]),
    (
        "y = if c { 1 } else { 2 }",
        [
            (
                "2:14",
                "expected 'then' before '{'",
                "a conditional expression is written 'if condition then value else other'",
            )
        ],
    ),
    (
        "y = if c then 1",
        [
            (
                "3:5",
                "expected 'else' before 'return'",
                "a conditional expression is written 'if condition then value else other'",
            )
        ],
    ),
    (
        "y = if c 1 else 2",
        [
            (
                "2:14",
                "expected 'then' before '1'",
                "a conditional expression is written 'if condition then value else other'",
            )
        ],
    ),
    ("x == 3", [("2:7", "'==' compares; a name is bound by '='", "write '='")]),
    ("if x = 3 { }", [("2:10", "'=' binds a name and is no comparison", "write '==' to compare")]),
    ("x.a += 1", [("2:5", "values never change: an attribute cannot be assigned", "bind a new value to a name")]),
    ("x[0] = 1", [("2:5", "values never change: an item cannot be assigned", "bind a new value to a name")]),
    ("x.append(3)", [("2:7", "values never change: a list cannot be appended to", "write 'x = x + [ … ]'")]),
    ("relu(x)", [("2:5", "an expression alone is no statement: its value would be lost", "bind it: 'y = relu(x)'")]),
    (
        "x -> relu",
        [("2:5", "an expression alone is no statement: its value would be lost", "bind it: 'y = x -> relu'")],
    ),
    (
        "y = [f(a) for a in b]",
        [
            (
                "2:15",
                "there are no comprehensions",
                "start with 'items = []' and write 'for x in … { items = items + [ … ] }'",
            )
        ],
    ),
    (
        "y = 1 + if c then 1 else 2",
        [("2:13", "a conditional after '+' stands in parentheses", "write '+ (if c then 1 else 2)'")],
    ),
    ("for a in b -> f { }", [("2:16", "a chain in the header of a loop stands in parentheses", "write '(b -> f)'")]),
    (
        "y = f(*a)",
        [
            (
                "2:11",
                "'*' cannot spread a list over arguments",
                "'concat' and the other joining operators take a list as it is",
            )
        ],
    ),
    (
        "y = map(lambda x: x, b)",
        [("2:13", "there is no 'lambda'", "write a call with holes, 'conv(_, 64, 3)', or a block")],
    ),
    (
        "input x: float32",
        [
            (
                "2:14",
                "expected the shape of 'float32' in brackets",
                "write 'float32[N, 3, 224, 224]'; a scalar is 'float32[]'",
            )
        ],
    ),
    (
        "input x float32[3]",
        [("2:13", "expected ':' after 'x', found 'float32'", "write 'input name: float32[N, 3, 224, 224]'")],
    ),
    ("y = (a, b]", [("2:14", "expected ')' before ']'", "")]),
    ("y = a)", [("2:10", "')' closes nothing: no bracket is open here", "delete it")]),
    ("y := 3", [("2:7", "a name is bound by '='", "write '=' instead of ':='")]),
    ("y = a\n  -> f ->\nz = 3", [("4:5", "expected an expression after '->', found the next statement", "")]),
    ("3 = y", [("2:5", "an expression alone is no statement: its value would be lost", "bind it: 'y = 3'")]),
    ("y /= 3", [("2:7", "there is no '/='", "write 'y = y / …'")]),
    ("for i in range(3) x = 3", [("2:23", "expected '{' before 'x'", "the body of 'for' stands in braces: '{ … }'")]),
    ("repeat 3 as in { }", [("2:17", "'in' is a word of the language and cannot be a name", "write 'in_'")]),
    ("y = x[]", [("2:11", "expected an expression after '[', found ']'", "")]),
    ("y = f(x,, 3)", [("2:13", "expected an expression after ',', found ','", "")]),
    (
        "print(x)",
        [
            (
                "2:5",
                "'print' is no word of netdsl",
                "nothing is printed while a network is built; 'netdsl report' shows its layers",
            )
        ],
    ),
    ("y =", [("3:5", "expected an expression after '=', found 'return'", "")]),
    ("assert (a = b)", [("2:15", "'=' binds a name and is no comparison", "write '==' to compare")]),
    (
        "y = a b",
        [
            (
                "2:11",
                "expected the end of the statement, found 'b'",
                "two values stand side by side: an operator, '->' or a bracket is missing between them",
            )
        ],
    ),
    ("param w: float32[3] zeros", [("2:25", "expected '=' before 'zeros'", "write 'param w: float32[3] = zeros…'")]),
    ("y = x.", [("3:5", "expected a name after '.', found 'return'", "")]),
    ("block z(a) { }", [("2:5", "expected '}' before 'block', which starts a new definition", "")]),
    (
        "y = a ! b",
        [("2:11", "'!' is not an operator", "write 'not'"), ("2:13", "expected 'in' after 'not', found 'b'", "")],
    ),
    ("y = 1 + -> f", [("2:13", "expected an expression after '+', found '->'", "")]),
    ("else { }", [("2:5", "this 'else' has no 'if' before it", "write 'if condition { … } else { … }'")]),
    (
        'import "a" as b',
        [
            ("2:5", "expected '}' before 'import', which starts a new definition", ""),
            ("3:5", "expected 'import' after 'b', found 'return'", "write 'import \"file.net\" as name'"),
        ],
    ),
    ("y = f(a b=2)", [("2:13", "expected ',' between arguments, found 'b'", "write 'a, b'")]),
    ("y = {a: 1}", [("2:9", "expected an expression after '=', found '{'", "")]),
    ("y = x -> -f", [("2:14", "expected an expression after '->', found '-'", "")]),
    ("y += ", [("3:5", "expected an expression after '+=', found 'return'", "")]),
    ("x, = y", [("2:8", "expected a name or '(' after ',', found '='", "")]),
    ("for a in { }", [("2:14", "expected an expression after 'in', found '{'", "")]),
    (
        "y = a\n}",
        [
            (
                "4:5",
                "'return' stands outside of a block or network",
                "move it into a body '{ … }'; a '}' before it may be one too many",
            )
        ],
    ),
]

# Whole files.
AT_THE_TOP: list[tuple[str, Expected]] = [
    ("def Foo(x) {\n    return x\n}", [("1:1", "'def' is no word of netdsl", "write 'block Foo(x) { … }'")]),
    (
        "class Foo {\n}",
        [
            (
                "1:1",
                "'class' is no word of netdsl",
                "a model is written 'network Name { … }', a part of one 'block Name(x) { … }'",
            )
        ],
    ),
    ("let x = 3", [("1:1", "'let' is no word of netdsl", "write 'x = …'")]),
    ("fn foo(x) { return x }", [("1:1", "'fn' is no word of netdsl", "write 'block foo(x) { … }'")]),
    (
        "netwrok Foo {\n    input x: float32[3]\n}",
        [("1:1", "'netwrok' starts no definition", "did you mean 'network'?")],
    ),
    ("block A(x, x) { return x }", [("1:12", "the parameter 'x' is declared twice", "")]),
    (
        "block A(x=1, y) { return x }",
        [
            (
                "1:14",
                "the parameter 'y' without a default cannot follow one with a default",
                "give it a default, or move 'y' forward",
            )
        ],
    ),
    (
        "block A { return 1 }",
        [("1:9", "a block has its parameters in parentheses before its body", "write 'block A(x) { … }'")],
    ),
    ("network { }", [("1:9", "expected a name after 'network', found '{'", "write 'network Name { … }'")]),
    (
        'import "a"',
        [("1:11", "expected 'as' after '\"a\"', found the end of the file", "write 'import \"file.net\" as name'")],
    ),
    ('from "a" import', [("1:16", "expected a name after 'import', found the end of the file", "")]),
    (
        "import a",
        [("1:8", "expected a file's path in quotes after 'import', found 'a'", "write 'import \"file.net\" as name'")],
    ),
    ("x = 1 +", [("1:8", "expected an expression after '+', found the end of the file", "")]),
    ("block A(x) {", [("1:13", "expected '}' at the end of the file", "")]),
    ("y = ((3", [("1:8", "expected ')' before the end of the file", "")]),
    ("y = 1.", [("1:5", "'1.' is not a number", "write 1.0")]),
    ("y = .5", [("1:5", "'.5' is not a number", "write 0.5")]),
    ("y = 3x", [("1:5", "'3x' is not a number", "a name cannot start with a digit; a product is written 3 * x")]),
    ("y = 1_000", [("1:5", "'1_000' is not a number", "write 1000")]),
    ("y = größe", [("1:5", "'größe' is not a name: names are made of A–Z, a–z, 0–9 and _", "")]),
    (
        'y = """doc"""',
        [
            (
                "1:5",
                "there are no triple-quoted strings",
                "write a description as a comment: '#' at the start of each of its lines",
            )
        ],
    ),
    ("y = a $ b", [("1:7", "'$' means nothing in netdsl", "a name stands without '$'")]),
    (
        "@foo\nblock A(x) { return x }",
        [("1:1", "expected 'block', 'network', 'train', 'import', 'from' or 'name = value', found '@'", "")],
    ),
    (
        "output x = 3",
        [
            (
                "1:1",
                "'output' stands outside of a block or network",
                "move it into a body '{ … }'; a '}' before it may be one too many",
            )
        ],
    ),
    ("y = 1e999", [("1:5", "1e999 is too large for a float: at most 1.797e308", "")]),
    (
        'y = "a\\d"',
        [("1:7", "'\\d' is no escape", "the escapes are \\\" \\' \\\\ and \\n; a backslash is written \\\\")],
    ),
    (
        "block A(x) {\n    y = x\n\nblock B(x) {\n    return x\n}",
        [("4:1", "expected '}' before 'block', which starts a new definition", "")],
    ),
    (
        "block A(x) {\n    for i in x {\n        y = x\n    return y\n}\n\nnetwork B {\n    output y = 3\n}",
        [("7:1", "expected '}' before 'network', which starts a new definition", "")],
    ),
    ("]", [("1:1", "']' closes nothing: no bracket is open here", "delete it")]),
    (
        "for",
        [
            (
                "1:1",
                "'for' stands outside of a block or network",
                "move it into a body '{ … }'; a '}' before it may be one too many",
            )
        ],
    ),
    ("y = 0x10", [("1:5", "'0x10' is not a number", "write it in decimal: 16")]),
    ("y = /* open", [("1:5", "this '/*' comment is never closed", "a comment starts with '#', on each of its lines")]),
    (
        "train Foo ( ) \n",
        [("1:14", "expected '{' before the end of the file", "the body of 'train' stands in braces: '{ … }'")],
    ),
    (
        "network Foo: { }",
        [("1:12", "a body stands in braces, not after ':'", "write '{' here and '}' at the end of the body")],
    ),
    ("\x00", [("1:1", "an invisible character U+0000 stands in the text", "delete it")]),
    (
        "y = 'ab\nz = 3",
        [
            (
                "1:5",
                "this string is not closed: expected ' before the end of the line",
                "close it with ' on the same line; a line break in a string is written \\n",
            )
        ],
    ),
    ("y = a = b", [("1:7", "'=' stands once in a statement", "bind each name in a statement of its own")]),
]
