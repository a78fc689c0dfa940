/**
 * Strict reading of JSON objects: what is refused, and what the worst texts that fit into a token
 * cost.
 */

import fc from 'fast-check';
import type { Test } from 'tap';
import t from 'tap';
import { parseJsonObject } from '../../src/lib/json.ts';

/** Bytes of the payload of the longest token. */
const PAYLOAD_BYTES = 49_000;

const read = (text: string) => parseJsonObject(Buffer.from(text));
const list = (count: number, element: (index: number) => string): string =>
  Array.from({ length: count }, (_, index) => element(index)).join();

/** Calls the function and returns how often it called JSON.parse. */
function parses(t: Test, work: () => unknown): number {
  const calls = t.capture(JSON, 'parse', JSON.parse);
  try {
    work();
  } catch {
    // The caller counts only.
  }
  const { length } = calls();
  calls.restore();
  return length;
}

t.test('a text of many member names is parsed once, or not at all (issue 16, 3)', async (t) => {
  for (const [what, text, count] of [
    ['many names', `{${list(500, (i) => `"n${i}":0`)}}`, 1],
    ['names with escapes', `{${list(500, (i) => `"\\u0061${i}":0`)}}`, 1],
    ['one name in many objects', `{"a":[${list(499, () => '{"b":0}')}]}`, 1],
    ['more names than a token has', `{${list(501, (i) => `"n${i}":0`)}}`, 0],
    ['as many names as fit', `{${list(8000, (i) => `"${i}":0`)}}`, 0],
    ['as many names as fit, nested', `{"a":[${list(6000, () => '{"b":0}')}]}`, 0],
    ['as many elements as fit', `{"a":[${list(24_000, () => '0')}]}`, 0],
    ['as many lists as fit', `{"a":[${list(16_000, () => '[]')}]}`, 0],
    ['as deep as fits', `{"a":${'['.repeat(24_000)}${']'.repeat(24_000)}}`, 0],
    ['brackets without an end', '['.repeat(PAYLOAD_BYTES), 0],
    ['a string without an end', `{"a":"${'\\'.repeat(PAYLOAD_BYTES)}`, 1],
    ['white space', `{${' '.repeat(PAYLOAD_BYTES)}`, 1],
  ] as const) {
    t.equal(
      parses(t, () => read(text)),
      count,
      what,
    );
  }
});

t.test('the limits are exact, and count no text within strings', async (t) => {
  t.equal(read(`{${list(500, (i) => `"n${i}":0`)}}`).size, 500);
  t.throws(() => read(`{${list(501, (i) => `"n${i}":0`)}}`), {
    message: 'has more than 500 members',
  });
  // The object, the list, and a comma for each element but the first.
  t.equal((read(`{"a":[${list(1999, () => '0')}]}`).get('a') as unknown[]).length, 1999);
  t.throws(() => read(`{"a":[${list(2000, () => '0')}]}`), {
    message: 'has more than 2000 values',
  });
  const text = ':,[{"\\'.repeat(1000);
  t.equal(read(JSON.stringify({ [text]: text })).get(text), text);
});

t.test('a member that is named twice is found in any object and in any spelling', async (t) => {
  for (const text of [
    '{"a":1,"a":1}',
    '{"a":1,"\\u0061":2}',
    '{"a":1,"b":{"a":1},"a":{"b":1}}',
    '{"a":[[{"b":1},{"c":1,"c":1}]]}',
    '{"__proto__":1,"__proto__":2}',
    '{"1":1,"\\u0031":2}',
    '{"":1,"":2}',
    '{"a":{"b":{},"b":{"c":1}}}',
  ]) {
    t.throws(() => read(text), { message: 'names a member twice' }, text);
  }
  t.equal(read('{"a":1,"A":2,"b":{"a":1},"c":[{"a":1},{"a":1}],"__proto__":{"a":1}}').size, 5);
});

t.test('any object is read as JSON.parse reads it', async (t) => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 5 })), (value) => {
      const text = JSON.stringify(value);
      const members = Object.entries(JSON.parse(text) as object);
      return JSON.stringify([...read(text)]) === JSON.stringify(members);
    }),
    { numRuns: 2000 },
  );
  t.pass('2000 objects');
});
