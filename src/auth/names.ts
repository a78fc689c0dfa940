/**
 * SQL user names as both sides of every comparison see them. Folding comes before the checks on length and on reserved names,
 * since `PG_MONITOR` or a Kelvin sign may fold to a name that means something to the backend.
 */
import { isUsableText } from './text.ts';

/** NAMEDATALEN − 1. PostgreSQL cuts a longer name, and the cut name may be another role. */
const NAME_LIMIT = 63;

/**
 * The name in lower case, whatever the locale, and in NFC; folding twice changes nothing. Lower case comes first because it can
 * take a composed character apart (İ becomes i and a dot), and NFC never brings an upper-case letter back.
 */
export function foldName(name: string): string {
  return name.toLowerCase().normalize('NFC');
}

/** Whether a folded name can be a SQL user: 1 to 63 bytes of UTF-8 without invisible characters. */
export function isUsableName(folded: string): boolean {
  return isUsableText(folded) && Buffer.byteLength(folded) <= NAME_LIMIT;
}
