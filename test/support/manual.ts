/** What the manual tells an operator to type. */
import { readFileSync } from 'node:fs';
import pg from 'pg';
import type { FrontEnd } from './front-end.ts';

/**
 * Runs each SET of a page of docs/ at the console, as the owner of the data directory.
 *
 * @returns how many there are
 * @throws the error of the first that is refused
 */
export async function runStatements(page: string, { dataDir, port }: FrontEnd): Promise<number> {
  // Seen from build/test/support.
  const text = readFileSync(new URL(`../../../docs/${page}`, import.meta.url), 'utf8');
  const statements = text.match(/^ {4,}SET CLUSTER SETTING [^;]*;$/gm) ?? [];
  const client = new pg.Client({ host: dataDir, port, database: 'pgsso', user: 'owner' });
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
  return statements.length;
}
