/** The identity map: how it is parsed, what its rules match, and which rules are not anchored. */

import fc from 'fast-check';
import { RE2JS } from 're2js';
import t from 'tap';
import { PgError } from '../../src/lib/errors.ts';
import { parseIdentityRules } from '../../src/settings/maps.ts';
import { isAnchored } from '../../src/settings/pattern.ts';
import { patternCost } from '../../src/settings/pattern-cost.ts';

function namesOf(map: string, principal: string, issuer = 'iss'): (string | undefined)[] {
  return parseIdentityRules(map)
    .rulesFor(issuer)
    .map((rule) => rule.match(principal));
}

function refusalOf(map: string): PgError {
  try {
    parseIdentityRules(map);
  } catch (error) {
    if (error instanceof PgError && error.sqlstate === '22023') return error;
    throw error;
  }
  throw new Error('the map was taken');
}

t.test('a rule matches its issuer exactly and its identity in any case', async (t) => {
  const table: [string, string, string, (string | undefined)[]][] = [
    ['a literal', 'iss Bob@Example.com robert', 'bOB@example.COM', ['robert']],
    ['a literal is no expression', 'iss b.b robert', 'bab', [undefined]],
    ['a literal is whole', 'iss bob robert', 'bobby', [undefined]],
    ['an expression', 'iss /^(.*)@example\\.com$ \\1', 'Bob@EXAMPLE.com', ['Bob']],
    ['not anchored unless it says so', 'iss /bob robert', 'a bob too', ['robert']],
    ['$ is the end of the text, not of a line', 'iss /^bob$ robert', 'bob\n', [undefined]],
    ['the first \\1 only', 'iss /^(.)$ a\\1-\\1', 'x', ['ax-\\1']],
    ['the first group only', 'iss /^(.)(.)$ \\1', 'xy', ['x']],
    ['a group that took no part', 'iss /^(a)?b$ \\1', 'b', ['']],
    ['a capture that looks like a replacement', 'iss /^(.*)$ <\\1>', '$&$1\\1', ['<$&$1\\1>']],
    ['syntax that only RE2 has', 'iss /^(?P<n>[[:alpha:]]+)\\z \\1', 'abc', ['abc']],
    [
      'all rules, in order',
      'iss a one\r\n\n # none\niss /^(a)$ \\1 # two\niss b three\n',
      'a',
      ['one', 'a', undefined],
    ],
    ['another issuer', 'ISS bob robert', 'bob', []],
  ];
  for (const [name, map, principal, names] of table) t.same(namesOf(map, principal), names, name);
  t.equal(parseIdentityRules('\n# x\niss a b').rules[0]?.line, 3);
  t.same(parseIdentityRules('').rules, []);
});

t.test('the error of a map names the line', async (t) => {
  const table: [string, string][] = [
    ['iss a b\n\niss bob', 'unable to parse line 3: "iss bob"'],
    ['iss a b c # d', 'unable to parse line 1: "iss a b c"'],
    ['iss\u00a0a b', 'unable to parse line 1: "iss\u00a0a b"'],
    [
      'iss a b\niss /^bob$ \\1',
      'saw \\1 substitution on line 2, but pattern contains no subexpressions',
    ],
    ['iss bob \\1', 'saw \\1 substitution on line 1, but pattern contains no subexpressions'],
    ['iss /(a b', 'unable to parse line 1: error parsing regexp: missing closing ): `(a`'],
    [
      'iss /(?=a) b',
      'unable to parse line 1: error parsing regexp: invalid or unsupported Perl syntax: `(?=`',
    ],
  ];
  for (const [map, message] of table) t.equal(refusalOf(map).message, message);
});

t.test('the published example with a reversed range is refused with a hint', async (t) => {
  const { message, hint } = refusalOf('iss /^([9-0]*)$ \\1');
  t.match(
    message,
    'unable to parse line 1: error parsing regexp: invalid character class range: `9-0`',
  );
  t.match(hint, /0-9 was probably meant/);
});

t.test('the cost of a map is bounded', async (t) => {
  const line = (expression: string): string => `iss /${expression} user\n`;
  t.match(refusalOf(line('a'.repeat(4097))).message, /longer than 4096 characters/);
  t.match(
    refusalOf(line('a').repeat(1001)).message,
    /^unable to parse line 1001: there are more than 1000 expressions/,
  );
  t.match(refusalOf(line('[a-z]{900}'.repeat(20)).repeat(20)).message, /too large/);
  t.ok(refusalOf('x'.repeat(5000)).message.length < 300, 'and so is what an error repeats');
  t.equal(
    namesOf('iss /^(a|a)*$ x', `${'a'.repeat(5000)}b`)[0],
    undefined,
    'and a match takes linear time',
  );
});

t.test('an expression that takes long to compile is refused before it is', async (t) => {
  const costly: Record<string, string> = {
    'a repetition that may be absent': 'x{0,1000}'.repeat(200),
    'a group that is repeated': `(${'a'.repeat(1980)}){1000}`,
    'repetitions of repetitions': '((a{30}){30}){30}',
    'ranges of many letters': '[b-\\x{1e000}]'.repeat(40),
    'many ranges in one class': `[${'b-\u{1e000}'.repeat(400)}]`,
    'classes of Unicode': '\\pL'.repeat(500),
    'classes in a class': `[^${'\\PN'.repeat(500)}]`,
    'behind flags': `(${'a'.repeat(100)})(?i){1000}`,
    'without an end': '('.repeat(500) + 'x{0,1000}'.repeat(150),
  };
  const found = Object.entries(costly).map(([, source]) => refusalOf(`iss /${source} u`).message);
  t.match(
    found,
    found.map(
      () => /^unable to parse line 1: the expression is too large: .* take \d+ steps .* 20000 /,
    ),
  );
  const fine = ['^[\\w.-]+@example\\.com$', '[^\\x{80}-\\x{10ffff}]', '\\p{Lu}{3,20}', 'x{1000}'];
  t.ok(fine.every((source) => patternCost(source) < 3000));
  const lines = 'iss /[b-\\x{1e000}] u\n'.repeat(100);
  t.match(
    refusalOf(lines).message,
    /^unable to parse line 82: the expressions up to here are too /,
  );
});

t.test('the cost of an expression is at least its size', async () => {
  const words = [
    ...['a', 'K', 'é', '.', '[a-z]', '[^b]', '\\pL', '\\w', '\\Qab\\E', '\\x{41}', '^', '$'],
    ...[
      '(',
      ')',
      '(?:',
      '(?i)',
      '(?P<n>',
      '|',
      '*',
      '+',
      '?',
      '*?',
      '{2}',
      '{3,}',
      '{0,7}',
      '{2,4}?',
    ],
  ];
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...words), { maxLength: 25 }), (pieces) => {
      const source = pieces.join('');
      const cost = patternCost(source);
      if (cost > 20_000) return true;
      try {
        return RE2JS.compile(source, RE2JS.CASE_INSENSITIVE).programSize() <= cost;
      } catch {
        // Not an expression, which RE2 says.
        return true;
      }
    }),
    { numRuns: 2000 },
  );
});

t.test('an expression is anchored when each alternative is, at both ends', async (t) => {
  const anchored = [
    '^a$',
    '\\Aa\\z',
    '^(a|b)$',
    '^a$|^b$',
    '(?i)^a$',
    '^[$|^]$',
    '^\\Q|a\\E$',
    '^[[:alpha:]|]$',
    '^[]|]$',
    '^(?:a)(?P<n>b)$',
  ];
  const loose = [
    'a',
    '^a',
    'a$',
    '^a\\$',
    '^a|b$',
    '^a$|b',
    '(?m)^a$',
    '^?a$',
    '^*a$',
    '^{0}a$',
    '^a[$]',
    '^a\\Q$\\E',
    '\\^a$',
    '^(?i)*a$',
    '^(?){0}a$',
    '^\\Q\\E*a$',
    '',
    '(?i-s:^a$)',
    '^a\\\\z',
  ];
  for (const source of anchored) t.equal(isAnchored(source), true, source);
  for (const source of loose) t.equal(isAnchored(source), false, source);
});

t.test('an expression that counts as anchored never matches a part of a text', async () => {
  const piece = fc.constantFrom(
    '^',
    '$',
    '|',
    '(',
    ')',
    '(?i)',
    '(?m)',
    '(?:',
    '[',
    ']',
    '[^',
    'a',
    'b',
    '*',
    '?',
    '{0}',
    '\\A',
    '\\z',
    '\\$',
    '\\Q',
    '\\E',
    '\\\\',
    '-',
    ':',
  );
  const source = fc.array(piece, { maxLength: 9 }).map((pieces) => `^${pieces.join('')}$`);
  fc.assert(
    fc.property(source, fc.stringMatching(/^[ab$^|\n]{0,5}$/), (written, text) => {
      let expression: RE2JS;
      try {
        expression = RE2JS.compile(written, RE2JS.CASE_INSENSITIVE);
      } catch {
        return true;
      }
      const matcher = expression.matcher(text);
      return !isAnchored(written) || !matcher.find() || matcher.group() === text;
    }),
    { numRuns: 5000 },
  );
});

t.test('any text is a map or an error of SQLSTATE 22023', async () => {
  const text = fc
    .array(
      fc.constantFrom(
        'iss',
        ' ',
        '\n',
        '\t',
        '/',
        '(',
        ')',
        '\\1',
        'a',
        '#',
        '[',
        '*',
        '\u2028',
        '\ud800',
      ),
    )
    .map((parts) => parts.join(''));
  fc.assert(
    fc.property(text, fc.string(), (map, principal) => {
      try {
        for (const rule of parseIdentityRules(map).rules) rule.match(principal);
      } catch (error) {
        return error instanceof PgError && error.sqlstate === '22023';
      }
      return true;
    }),
  );
});
