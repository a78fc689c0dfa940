/** Names: how they are folded, shown and reserved, and what the identity map makes of them. */

import fc from 'fast-check';
import t from 'tap';
import { mapPrincipals, reserveNames } from '../../src/auth/principals.ts';
import {
  foldName,
  formatList,
  formatText,
  isUsableName,
  isUsableText,
} from '../../src/lib/text.ts';
import { ISSUER, type Matcher, rulesOf } from './login.ts';

const anyText = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: 'grapheme' }),
  fc.string(),
);

t.test('a name folds to', async (t) => {
  for (const [name, folded] of [
    ['Alice', 'alice'],
    ['ÉMILE', 'émile'],
    ['E\u0301mile', 'émile'],
    ['\u212aate', 'kate'],
    ['\u212bsa', 'åsa'],
    ['I', 'i'],
    ['\u0130', 'i\u0307'],
    ['ı', 'ı'],
    ['ﬀ', 'ﬀ'],
    ['ẞ', 'ß'],
    ['ＲＯＯＴ', 'ｒｏｏｔ'],
    ['ſ', 'ſ'],
  ] as const) {
    t.equal(foldName(name), folded, formatText(name));
  }
});

t.test('folding twice changes nothing, and the normal form does not matter', async (t) => {
  fc.assert(
    fc.property(anyText, (text) => {
      const folded = foldName(text);
      return (
        folded === foldName(folded) &&
        folded === foldName(text.normalize('NFD')) &&
        folded === foldName(text.normalize('NFC'))
      );
    }),
    { numRuns: 2000 },
  );
  t.pass('2000 texts');
});

t.test('a name is usable', async (t) => {
  for (const name of [
    'a',
    'x'.repeat(63),
    'é'.repeat(31),
    'a b',
    '👩‍💻'.replace('\u200d', ''),
    '名前',
    "o'neil",
    '"',
  ]) {
    t.ok(isUsableName(name), name);
  }
});

t.test('a name is not usable', async (t) => {
  const invisible = [
    '\0',
    '\t',
    '\n',
    '\x1f',
    '\x7f',
    '\x80',
    '\x9f',
    '\u00ad',
    '\u200b',
    '\u200d',
    '\u2028',
    '\u2029',
    '\u202e',
  ];
  const names = [
    '',
    'x'.repeat(64),
    'é'.repeat(32),
    ...[...invisible, '\ufeff', '\ud800', '\udc00'].map((character) => `a${character}`),
  ];
  for (const name of names) {
    t.notOk(isUsableName(name), formatText(name));
  }
});

t.test('text is shown', async (t) => {
  for (const [text, shown] of [
    ['plain', 'plain'],
    ['a\0\n\x7f\x85', 'a\\x00\\x0a\\x7f\\xc2\\x85'],
    ['é😀', 'é😀'],
    ['x'.repeat(257), 'x'.repeat(256)],
    ['😀'.repeat(257), '😀'.repeat(256)],
    [`${'x'.repeat(252)}\n`, `${'x'.repeat(252)}\\x0a`],
    [`${'x'.repeat(253)}\n`, 'x'.repeat(253)],
  ] as const) {
    t.equal(formatText(text), shown);
  }
  fc.assert(
    fc.property(anyText, (text) => {
      const shown = formatText(text);
      return [...shown].length <= 256 && (shown === '' || isUsableText(shown));
    }),
  );
});

t.test('a list is shown in brackets and cut after sixteen', async (t) => {
  t.equal(formatList([]), '[]');
  t.equal(formatList(['a', 'b\n']), '[a b\\x0a]');
  t.equal(formatList(Array(16).fill('a')), `[${Array(16).fill('a').join(' ')}]`);
  t.equal(formatList(Array(17).fill('a')), `[${Array(16).fill('a').join(' ')} …]`);
});

t.test('the built-in names and those of the operator are reserved, folded', async (t) => {
  const isReserved = reserveNames(['Svc_Backup', '\u212aeeper']);
  for (const name of [
    '',
    'root',
    'node',
    'public',
    'none',
    'admin',
    'postgres',
    'pg_',
    'pg_read_all_data',
    'crdb_internal',
  ]) {
    t.ok(isReserved(name), name);
  }
  t.ok(isReserved('svc_backup'));
  t.ok(isReserved('keeper'));
  for (const name of ['alice', 'pg', 'rooted', 'administrator', 'postgres2', 'my_pg_role']) {
    t.notOk(isReserved(name), name);
  }
});

t.test('the identity map', async (t) => {
  const names = (principals: readonly string[], ...matchers: readonly Matcher[]) => {
    const { principalOf, unusable } = mapPrincipals(rulesOf(...matchers), ISSUER, principals);
    return { names: [...principalOf], unusable: [...unusable] };
  };
  const only = (name: string) => (principal: string) =>
    principal === name ? principal : undefined;

  t.strictSame(
    names(['A', 'b']),
    {
      names: [
        ['a', 'A'],
        ['b', 'b'],
      ],
      unusable: [],
    },
    'without rules, principals are names',
  );
  t.strictSame(
    names(['A'], () => undefined),
    { names: [], unusable: [] },
    'with rules and no match there is no name',
  );
  t.strictSame(
    names(['x', 'y'], only('y'), () => 'All', only('x')),
    {
      names: [
        ['all', 'x'],
        ['x', 'x'],
        ['y', 'y'],
      ],
      unusable: [],
    },
    'names are distinct, in the order of principals and rules',
  );
  t.strictSame(
    names(['x', 'z'], () => '', only('z')),
    { names: [['z', 'z']], unusable: ['x', 'z'] },
    'unusable names are left out',
  );
  const { principalOf } = mapPrincipals(
    rulesOf(() => 'mapped'),
    'https://other.example',
    ['alice'],
  );
  t.strictSame([...principalOf.keys()], ['alice'], 'rules of another issuer do not count');
});

t.test(
  'the identity map yields distinct, folded, usable names, each with its principal',
  async (t) => {
    const matcher = fc.func(fc.option(anyText, { nil: undefined }));
    fc.assert(
      fc.property(
        fc.array(anyText),
        fc.array(matcher, { maxLength: 4 }),
        (principals, matchers) => {
          const { principalOf, unusable } = mapPrincipals(rulesOf(...matchers), ISSUER, principals);
          const usable = [...principalOf].every(
            ([name, principal]) =>
              name === foldName(name) && isUsableName(name) && principals.includes(principal),
          );
          return usable && unusable.every((principal) => principals.includes(principal));
        },
      ),
      { numRuns: 500 },
    );
    t.pass('500 maps');
  },
);
