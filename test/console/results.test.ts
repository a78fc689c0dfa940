/** The types of columns, in both formats, as another implementation of the protocol reads them. */
import pg from 'pg';
import t from 'tap';
import { type Cell, type Column, encodeCell, typeOf } from '../../src/console/results.ts';
import { makeConsole } from './console-world.ts';

t.test('each type of a column, as text and in binary', async (t) => {
  const table: [Column['type'], number, Cell, string, string][] = [
    ['bool', 16, true, 't', '01'],
    ['bool', 16, false, 'f', '00'],
    ['char', 18, 'b', 'b', '62'],
    ['int4', 23, -2, '-2', 'fffffffe'],
    ['int8', 20, 2 ** 40, '1099511627776', '0000010000000000'],
    ['oid', 26, 4_000_000_000, '4000000000', 'ee6b2800'],
    ['text', 25, 'ä', 'ä', 'c3a4'],
    ['interval', 1186, 15_000, '00:00:15', `0000000000e4e1c0${'0'.repeat(16)}`],
    ['interval', 1186, 90_061_250, '25:01:01.25', `00000014f8119dd0${'0'.repeat(16)}`],
    ['interval', 1186, -1, '-00:00:00.001', `fffffffffffffc18${'0'.repeat(16)}`],
    ['interval', 1186, 360_000_000, '100:00:00', `00000053d1ac1000${'0'.repeat(16)}`],
  ];
  for (const [type, oid, cell, text, binary] of table) {
    const column = { name: 'x', type };
    const encode = (format: 0 | 1) => encodeCell(cell, column, format);
    const { size } = typeOf(column);
    t.strictSame(
      [typeOf(column).oid, encode(0)?.toString(), encode(1)?.toString('hex')],
      [oid, text, binary],
      `${type} ${text}`,
    );
    t.ok(size === -1 || size === encode(1)?.length, `${type} has the size that is announced`);
    t.equal(encodeCell(undefined, column, 1), undefined);
  }
  const parse = (oid: number, text: string) => pg.types.getTypeParser(oid, 'text')(text);
  t.strictSame([parse(16, 't'), parse(16, 'f')], [true, false]);
  t.match(parse(1186, '-00:00:00.001'), { milliseconds: -1 });
  t.match(parse(1186, '25:01:01.25'), { hours: 25, minutes: 1, seconds: 1, milliseconds: 250 });
});

t.test('SHOW CLUSTER SETTING has the type of the setting', async (t) => {
  const world = await makeConsole();
  const { rows = [] } = await world.run('SHOW ALL CLUSTER SETTINGS');
  t.equal(rows[0]?.at(-1), true, 'public');
  const expected: Record<string, [string, number]> = {
    b: ['boolean', 16],
    d: ['number', 1186],
    i: ['number', 20],
    s: ['string', 25],
  };
  const { parseQueryText } = await import('../../src/console/statements/grammar.ts');
  for (const [name, , type] of rows) {
    const [statement] = parseQueryText(`SHOW CLUSTER SETTING ${name}`);
    const [column] = statement?.columns ?? [];
    if (!statement || !column) throw new Error(`no column of ${name}`);
    const [[cell] = []] = (await world.session().execute(statement, [])).rows ?? [];
    t.strictSame([typeof cell, typeOf(column).oid], expected[String(type)], String(name));
  }
});
