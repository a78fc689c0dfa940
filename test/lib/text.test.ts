/** Foreign text: how names are folded, what that costs, and how lists are cut. */

import fc from 'fast-check';
import t from 'tap';
import { readGroups } from '../../src/auth/groups.ts';
import { parseToken } from '../../src/auth/token.ts';
import { foldName, formatValues, isUsableName } from '../../src/lib/text.ts';
import { login, refusalOf, requestOf, settingsOf } from '../auth/login.ts';

/** Marks in an order that NFC has to sort: the worst text for it. */
const marks = (length: number): string => `a${'\u0323\u0301'.repeat(length / 2)}`.slice(0, length);

t.test('no text above the limit could have folded to a SQL name', async (t) => {
  let grows = 0;
  let shrinks = 0;
  let lower = 0;
  for (let code = 0; code <= 0x10ffff; code++) {
    if (code >= 0xd800 && code <= 0xdfff) continue;
    const character = String.fromCodePoint(code);
    const apart = character.normalize('NFD').length;
    grows = Math.max(grows, apart / character.length);
    shrinks = Math.max(shrinks, character.length / apart);
    lower = Math.max(lower, character.length / character.toLowerCase().length);
  }
  t.strictSame({ grows, shrinks, lower }, { grows: 4, shrinks: 2, lower: 1 });
  t.equal(63 * grows * shrinks * lower, 504);
});

t.test('no text with 67 marks in a row could have folded to a SQL name', async (t) => {
  const isMark = /^\p{M}$/u;
  const wrong: string[] = [];
  for (let code = 0; code <= 0x10ffff; code++) {
    if (code >= 0xd800 && code <= 0xdfff) continue;
    const character = String.fromCodePoint(code);
    const marks = [...character.normalize('NFD')].filter((part) => isMark.test(part)).length;
    const room = isMark.test(character) ? Buffer.byteLength(character.normalize('NFC')) : 3;
    // U+0345 has the highest class, so that every other mark that NFC sorts comes before it.
    const isSorted = `\u0345${character}`.normalize('NFD').startsWith('\u0345');
    if (marks > room || (!isSorted && !isMark.test(character))) wrong.push(code.toString(16));
  }
  t.strictSame(wrong, []);
  t.equal(foldName(`E${'\u0301'.repeat(66)}`), `é${'\u0301'.repeat(65)}`);
  t.equal(foldName(`E${'\u0301'.repeat(67)}`), `e${'\u0301'.repeat(67)}`);
});

t.test('a text that is too long for a name is not composed (issue 16, 9)', async (t) => {
  t.equal(foldName('E\u0301QUIPE'), 'équipe');
  t.equal(foldName(`E\u0301${'X'.repeat(502)}`), `é${'x'.repeat(502)}`, '504 units are');
  const calls = t.capture(String.prototype, 'normalize', String.prototype.normalize);
  for (const text of [marks(100), marks(505), marks(240_000), 'İ'.repeat(300)]) {
    t.equal(foldName(text), text.toLowerCase());
    t.equal(foldName(foldName(text)), foldName(text), 'folding twice changes nothing');
    t.notOk(isUsableName(foldName(text)));
  }
  t.strictSame(calls(), []);
});

t.test('folding twice changes nothing', async (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 600, size: 'max' }), (text) => {
      return foldName(foldName(text)) === foldName(text);
    }),
  );
  t.pass('texts of up to 600 characters');
});

t.test('no login composes what is too long for a name (issue 16, 9)', async (t) => {
  const long = marks(240_000);
  const claim = marks(20_000);
  const calls = t.capture(String.prototype, 'normalize', String.prototype.normalize);
  const composed = (): number =>
    Math.max(0, ...calls().map(({ receiver }) => String(receiver).length));

  t.match(await refusalOf({ user: long }), { code: 'user_not_in_token' }, 'the requested user');
  t.match(await refusalOf({ claims: { sub: claim } }), { code: 'invalid_claim_value' }, 'a claim');
  t.match(await login({ claims: { sub: 'alice', groups: [claim] } }), { user: 'alice' });
  t.ok(composed() <= 504, `${composed()}`);

  const token = parseToken(requestOf({}).token);
  const answer = new Map<string, unknown>([
    ['sub', 'alice'],
    ['groups', [long, 'Dev', marks(1000)]],
  ]);
  const { signal } = new AbortController();
  const groups = await readGroups(token, settingsOf(), async () => answer, signal);
  t.strictSame(groups, ['dev', marks(1000)], 'groups of userinfo');
  t.ok(composed() <= 504, `${composed()}`);
});

t.test('a list for the log is cut, and tells how long it was', async (t) => {
  t.strictSame(formatValues(['a', 'b\n']), ['a', 'b\\x0a']);
  const many = formatValues(Array.from({ length: 1000 }, () => 'x'.repeat(900)));
  t.equal(many.length, 17);
  t.equal(many.at(-1), '… (1000 in all)');
  t.ok(many.join().length < 5000);
});
