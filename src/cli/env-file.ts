/**
 * Environment files, as systemd reads them for `EnvironmentFile=` (systemd.exec(5)): a variable a
 * line, comments, quotes. What systemd would take in silence as something else than it looks like
 * is an error here: a backslash outside quotes, which systemd removes, is the last thing that is
 * noticed in `\1` of an identity map.
 */
import { readFileSync } from 'node:fs';
import { InvalidArgumentError } from 'commander';
import { errorText } from '../lib/errors.ts';

/** A file of options is short. */
const LIMIT = 1_000_000;

/** Inside double quotes a backslash escapes these. */
const ESCAPED = /\\(["\\`$])/g;

/** Adds the variables of a file to those of the process. The file wins. Returns its path. */
export function loadEnvFile(path: string): string {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(path));
  } catch (error) {
    throw new InvalidArgumentError(`It cannot be read: ${errorText(error)}.`);
  }
  if (text.length > LIMIT) throw new InvalidArgumentError(`It is longer than ${LIMIT} characters.`);
  for (const [name, value] of parseEnvFile(text)) process.env[name] = value;
  return path;
}

/**
 * The variables of a file.
 *
 * @throws InvalidArgumentError that names the line
 */
export function parseEnvFile(text: string): ReadonlyMap<string, string> {
  const variables = new Map<string, string>();
  let line = 1;
  let rest = text.replaceAll('\r\n', '\n');
  while (rest !== '') {
    const [taken, entry] = readEntry(rest, line);
    if (entry) variables.set(...entry);
    rest = rest.slice(taken.length);
    line += taken.split('\n').length - 1;
  }
  return variables;
}

/** The text up to the end of an entry, and the entry; none for a comment. */
function readEntry(text: string, line: number): [string, [string, string]?] {
  const [blank] = /^[ \t]*(?:[#;].*)?(?:\n|$)/.exec(text) ?? [];
  if (blank) return [blank];
  const [head, name] = /^[ \t]*([A-Za-z_]\w*)=[ \t]*/.exec(text) ?? [];
  if (head === undefined || name === undefined) throw invalid(line, 'give NAME=VALUE');
  const body = text.slice(head.length);
  const [taken, value] = readValue(body, line);
  const [end] = /^[ \t]*(?:\n|$)/.exec(body.slice(taken.length)) ?? [];
  if (end === undefined) throw invalid(line, 'text follows the closing quote');
  if (value.includes('\0')) throw invalid(line, 'a value cannot hold a NUL');
  return [head + taken + end, [name, value]];
}

/** The text of a value with its quotes, and the value. */
function readValue(text: string, line: number): [string, string] {
  if (text.startsWith("'")) {
    const [taken, value] = /^'([^']*)'/.exec(text) ?? [];
    if (taken === undefined || value === undefined) throw invalid(line, 'a quote is not closed');
    return [taken, value];
  }
  if (text.startsWith('"')) {
    const [taken, value] = /^"((?:[^"\\]|\\[\s\S])*)"/.exec(text) ?? [];
    if (taken === undefined || value === undefined) throw invalid(line, 'a quote is not closed');
    return [taken, value.replaceAll('\\\n', '').replace(ESCAPED, '$1')];
  }
  const [taken = ''] = /^[^\n]*/.exec(text) ?? [];
  if (taken.includes('\\')) {
    throw invalid(line, 'systemd removes a backslash outside quotes: put single quotes around');
  }
  return [taken, taken.trimEnd()];
}

function invalid(line: number, problem: string): InvalidArgumentError {
  return new InvalidArgumentError(`Line ${line}: ${problem}.`);
}
