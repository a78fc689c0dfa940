/**
 * The hint for a client that has a token and does not say so: without the JWT option a login is
 * native, and the database refuses the token as a wrong password. Only a login that is refused gets
 * the hint, so that nobody learns more than what it sent itself.
 */
import { isMeantAsToken } from '../auth/token.ts';
import { PgError } from '../lib/errors.ts';
import { formatText } from '../lib/text.ts';
import { JWT_OPTION } from '../wire/options.ts';
import type { LoginParameters } from '../wire/startup.ts';

const WHAT_TO_DO =
  `To log in with a token, send options=--${JWT_OPTION}=true. ` +
  'For clients that cannot send options, a rule of the method jwt takes the token without it.';

/** What a native login shows of a token. Of the password only one bit is kept. */
export class ForgottenOption {
  readonly #misspelt: string | undefined;
  #hasToken = false;

  constructor({ misspelt }: LoginParameters) {
    this.#misspelt = misspelt;
  }

  /** Looks at a password. Undefined: the backend asked for something else. */
  look(password: Buffer | undefined): void {
    if (password) this.#hasToken ||= isMeantAsToken(password);
  }

  /** The error of the login, with the hint if it is a refusal that the option would prevent. */
  explain(error: unknown): unknown {
    if (!(error instanceof PgError)) return error;
    const { sqlstate } = error;
    const isLogin = sqlstate.startsWith('28');
    // The backend looks at settings only behind the login: 42704, 42602, and 22023 of CockroachDB.
    const isSetting = sqlstate.startsWith('42') || sqlstate.startsWith('22');
    if (this.#misspelt !== undefined && (isLogin || isSetting)) {
      const option = formatText(this.#misspelt);
      return error.withHint(
        `"${option}" is not the option for tokens. ${WHAT_TO_DO}`,
        `the client sent "${option}", which is not ${JWT_OPTION}`,
      );
    }
    if (!this.#hasToken || !isLogin) return error;
    return error.withHint(
      `The password looks like a JSON web token. ${WHAT_TO_DO}`,
      `the password is a JSON web token, and ${JWT_OPTION} is missing`,
    );
  }
}
