/**
 * The identity map: which SQL user an external identity may be, in the form of PostgreSQL's pg_ident.conf (manual, 20.2), one rule
 * a line:
 *
 *     # issuer              external identity          SQL user
 *     https://idp.example   /^(.*)@example\.com$       \1
 *     https://idp.example   ops@example.com            operator
 *
 * An identity that begins with `/` is a regular expression. Everything is compiled when the map is set; a login only matches.
 */
import { errorText, PgError } from '../errors.ts';
import { compilePattern, type Pattern, suggestRange } from './pattern.ts';
import { quote } from './values.ts';

/** One line of the map. */
export interface IdentityRule {
  /** Compared exactly with the token's `iss`. */
  readonly issuer: string;
  /** From 1. */
  readonly line: number;
  /** The regular expression without its `/`; a literal has none. */
  readonly pattern?: string;
  /** The SQL user for the principal, `\1` put in, not folded and possibly unusable; undefined when the rule does not match. */
  match(principal: string): string | undefined;
}

/** The rules in their order. */
export interface IdentityRules {
  readonly rules: readonly IdentityRule[];
  /** The rules of one issuer; empty when it has none. */
  rulesFor(issuer: string): readonly IdentityRule[];
}

/** A compilation takes about a millisecond, during which nobody logs in. */
const PATTERN_LIMIT = 1000;

/** Characters: RE2 unrolls `x{1000}`, so the compiled form can be a hundred times longer than the text. */
const PATTERN_LENGTH_LIMIT = 4096;

/** Instructions of all patterns together: a login that tries them all on 50 characters stays within a tenth of a second. */
const PROGRAM_LIMIT = 100_000;

/** What stands for the first capture group. */
const CAPTURE = '\\1';

const noRules: readonly IdentityRule[] = Object.freeze([]);

/**
 * The rules of a map's text.
 *
 * @throws PgError 22023 that names the line
 */
export function parseIdentityRules(text: string): IdentityRules {
  const rules: IdentityRule[] = [];
  const byIssuer = new Map<string, IdentityRule[]>();
  const budget = { patterns: PATTERN_LIMIT, instructions: PROGRAM_LIMIT };
  for (const [index, line] of text.split('\n').entries()) {
    const rule = parseLine(line, index + 1, budget);
    if (rule === undefined) continue;
    rules.push(rule);
    const others = byIssuer.get(rule.issuer);
    if (others === undefined) byIssuer.set(rule.issuer, [rule]);
    else others.push(rule);
  }
  for (const ofIssuer of byIssuer.values()) Object.freeze(ofIssuer);
  return Object.freeze({
    rules: Object.freeze(rules),
    rulesFor: (issuer: string) => byIssuer.get(issuer) ?? noRules,
  });
}

/** What the rest of the map may still use. */
interface Budget {
  patterns: number;
  instructions: number;
}

function parseLine(text: string, line: number, budget: Budget): IdentityRule | undefined {
  // ASCII white space only, as in the reference: a no-break space that was pasted in makes a line that does not parse.
  const [written = ''] = text.split('#', 1);
  const columns = written.split(/[ \t\r\f\v]+/).filter((column) => column !== '');
  if (columns.length === 0) return undefined;
  const [issuer, identity, user] = columns;
  if (issuer === undefined || identity === undefined || user === undefined || columns.length > 3) {
    throw invalid(`unable to parse line ${line}: ${quote(written.trim())}`);
  }
  if (!identity.startsWith('/')) {
    checkCapture(user, 0, line);
    const literal = identity.toLowerCase();
    return Object.freeze({
      issuer,
      line,
      match: (principal: string) => (principal.toLowerCase() === literal ? user : undefined),
    });
  }
  const source = identity.slice(1);
  const pattern = compile(source, line, budget);
  checkCapture(user, pattern.groups, line);
  return Object.freeze({
    issuer,
    line,
    pattern: source,
    match: (principal: string) => substitute(user, pattern.capture(principal)),
  });
}

function compile(source: string, line: number, budget: Budget): Pattern {
  if (source.length > PATTERN_LENGTH_LIMIT) {
    throw invalid(`unable to parse line ${line}: the expression is longer than ${PATTERN_LENGTH_LIMIT} characters`);
  }
  budget.patterns -= 1;
  if (budget.patterns < 0) throw invalid(`unable to parse line ${line}: there are more than ${PATTERN_LIMIT} expressions`);
  let pattern: Pattern;
  try {
    pattern = compilePattern(source);
  } catch (error) {
    throw invalid(`unable to parse line ${line}: ${errorText(error)}`, suggestRange(error));
  }
  budget.instructions -= pattern.size;
  if (budget.instructions < 0) {
    throw invalid(`unable to parse line ${line}: the expressions up to here are too large to be matched at each login`);
  }
  return pattern;
}

function checkCapture(user: string, groups: number, line: number): void {
  if (user.includes(CAPTURE) && groups === 0) {
    throw invalid(`saw ${CAPTURE} substitution on line ${line}, but pattern contains no subexpressions`);
  }
}

/** Puts the capture in at the first `\1`, by position: it is a stranger's text and may itself hold what a replacement would expand. */
function substitute(user: string, capture: string | undefined): string | undefined {
  if (capture === undefined) return undefined;
  const at = user.indexOf(CAPTURE);
  return at === -1 ? user : user.slice(0, at) + capture + user.slice(at + CAPTURE.length);
}

function invalid(message: string, hint?: string): PgError {
  return new PgError({ code: 'invalid_setting_value', sqlstate: '22023', message, hint });
}
