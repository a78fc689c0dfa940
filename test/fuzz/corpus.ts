/**
 * What was found by fuzzing and by attacks, in corpus/<target>/. A file is an input with its story:
 *
 *     { "why": "…", "pieces": [["-c a=b", 1], [" %", 4900]] }
 *
 * The input is the pieces, each as often as its number says, so that a long input is a short file.
 * One with `"onlyLong": true` still takes seconds, so the short form leaves it out.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** An input of the corpus. */
export interface CorpusCase {
  /** The name of its file. */
  readonly file: string;
  readonly why: string;
  readonly text: string;
  /** Whether it is left out of the short form. */
  readonly onlyLong: boolean;
}

/** Seen from build/test/fuzz. */
const root = fileURLToPath(new URL('../../../test/fuzz/corpus/', import.meta.url));

/** The inputs that are kept for a target. */
export function readCorpus(target: string): readonly CorpusCase[] {
  const folder = `${root}${target}`;
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .toSorted()
    .map((file) => {
      const {
        why,
        onlyLong = false,
        pieces,
      } = JSON.parse(readFileSync(`${folder}/${file}`, 'utf8')) as {
        why: string;
        onlyLong?: boolean;
        pieces: readonly [string, number][];
      };
      return {
        file,
        why,
        onlyLong,
        text: pieces.map(([piece, times]) => piece.repeat(times)).join(''),
      };
    });
}

/** The targets for which something is kept. */
export function corpusFolders(): readonly string[] {
  return readdirSync(root);
}

/** Keeps an input. Returns the path of the file. */
export function keep(target: string, name: string, why: string, text: string): string {
  const folder = `${root}${target}`;
  mkdirSync(folder, { recursive: true });
  const path = `${folder}/${name}.json`;
  writeFileSync(path, `${JSON.stringify({ why, pieces: [[text, 1]] })}\n`);
  return path;
}
