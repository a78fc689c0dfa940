/**
 * What `npm test` prints: a line a test file, each failure in full where it happens, and at the end
 * a line that scripts read, `N passed, N failed` and, when tests were skipped, `, N skipped`. It
 * counts single assertions, not the tests that group them; what is still to do counts as skipped.
 * The exit status is tap's own.
 */
import { Transform, type TransformCallback } from 'node:stream';
import { Parser, type Result } from 'tap-parser';

/**
 * The writable stream that tap pipes its TAP into. A default export because tap's option `reporter`
 * takes nothing else.
 */
export default class Reporter extends Transform {
  readonly #parser = new Parser();
  #passed = 0;
  #failed = 0;
  #skipped = 0;

  constructor() {
    super({ encoding: 'utf8' });
    this.#parser.on('pass', () => this.#passed++);
    this.#parser.on('skip', () => this.#skipped++);
    this.#parser.on('todo', () => this.#skipped++);
    this.#parser.on('fail', (result: Result) => {
      this.#failed++;
      this.push(describe(result));
    });
    // at the root, a result is a whole file
    this.#parser.on('assert', ({ ok, name, time }: Result) => {
      this.push(
        `${ok ? '  ok  ' : 'NOT OK'}  ${name}${time === null ? '' : `  ${(time / 1000).toFixed(1)} s`}\n`,
      );
    });
    this.#parser.on('bailout', (reason: string) => this.push(`bailed out: ${reason}\n`));
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#parser.write(chunk);
    done();
  }

  override _flush(done: TransformCallback): void {
    this.#parser.once('complete', ({ ok }: { ok: boolean }) => {
      // broken TAP, such as a plan that was not kept, fails a run without a failed assertion
      const failed = ok ? this.#failed : Math.max(this.#failed, 1);
      this.push(
        `\n${this.#passed} passed, ${failed} failed${this.#skipped > 0 ? `, ${this.#skipped} skipped` : ''}\n`,
      );
      done();
    });
    this.#parser.end();
  }
}

/** Where, what was wrong, and the stack, of what tap's YAML block tells. */
function describe({ fullname, tapError, diag }: Result): string {
  const { at, diff, found, wanted, stack, exitCode, signal } = diag ?? {};
  const details = [
    tapError,
    exitCode !== undefined && exitCode !== null && `exit status ${exitCode}`,
    signal && `signal ${signal}`,
    at && `at ${at.fileName}:${at.lineNumber}:${at.columnNumber}`,
    diff ??
      (found !== undefined || wanted !== undefined
        ? `found  ${JSON.stringify(found)}\nwanted ${JSON.stringify(wanted)}`
        : undefined),
    stack,
  ];
  const lines = details.filter(Boolean).flatMap((detail) => String(detail).trimEnd().split('\n'));
  return `\nFAILED  ${fullname}\n${lines.map((line) => `        ${line}\n`).join('')}\n`;
}
