/** Names of claims: members, paths with dots, and JSON Pointers (RFC 6901, with its examples). */

import fc from 'fast-check';
import t from 'tap';
import { findMember, POINTER_LIMIT, parsePointer } from '../../src/lib/json-path.ts';

const DOCUMENT = new Map<string, unknown>(
  Object.entries({
    foo: ['bar', 'baz'],
    '': 0,
    'a/b': 1,
    'c%d': 2,
    'k"l': 6,
    ' ': 7,
    'm~n': 8,
    'a.b': 'exact',
    a: { b: 'deep', '': 'empty', list: [{ x: 'y' }] },
    'kubernetes.io': { serviceaccount: { uid: 'u-1' } },
    '/slash': 'never by a pointer',
  }),
);

t.test('a name finds a value', async (t) => {
  const rows: [string, unknown][] = [
    ['foo', ['bar', 'baz']],
    ['a.b', 'exact'],
    ['kubernetes.io', { serviceaccount: { uid: 'u-1' } }],
    ['a.list', [{ x: 'y' }]],
    ['a.list.0', undefined],
    ['a.none.x', undefined],
    ['', 0],
    ['/foo', ['bar', 'baz']],
    ['/foo/0', 'bar'],
    ['/foo/00', undefined],
    ['/foo/-', undefined],
    ['/foo/2', undefined],
    ['/foo/length', undefined],
    ['/foo/9999999999', undefined],
    ['/', 0],
    ['/a~1b', 1],
    ['/c%d', 2],
    ['/k"l', 6],
    ['/ ', 7],
    ['/m~0n', 8],
    ['/m~n', undefined],
    ['/a/b', 'deep'],
    ['/a/', 'empty'],
    ['/a.b', 'exact'],
    ['/a/list/0/x', 'y'],
    ['/kubernetes.io/serviceaccount/uid', 'u-1'],
    ['/slash', undefined],
    ['/~1slash', 'never by a pointer'],
    ['/a/constructor', undefined],
    ['/a/__proto__', undefined],
    ['/__proto__', undefined],
  ];
  t.strictSame(
    rows.map(([name]) => [name, findMember(DOCUMENT, name)]),
    rows,
  );
});

t.test('a pointer has a limit, and escapes of its own', async (t) => {
  t.equal(parsePointer('/a'.repeat(POINTER_LIMIT))?.length, POINTER_LIMIT);
  for (const text of ['/a'.repeat(POINTER_LIMIT + 1), '/'.repeat(1e6), '/~', '/a~2'])
    t.equal(parsePointer(text), undefined);
  // RFC 6901, 4: ~1 first, so that ~01 is ~1 and not a slash.
  t.strictSame(parsePointer('/~01'), ['~1']);
});

t.test('each member has a pointer that finds it', async () => {
  const name = fc.string({ unit: fc.constantFrom(...'/~01.a"\\ é') });
  fc.assert(
    fc.property(name, name, fc.integer(), (outer, inner, value) => {
      const escaped = (text: string) => text.replaceAll('~', '~0').replaceAll('/', '~1');
      const document = new Map([[outer, { [inner]: value }]]);
      return findMember(document, `/${escaped(outer)}/${escaped(inner)}`) === value;
    }),
  );
});
