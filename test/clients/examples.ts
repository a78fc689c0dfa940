/** The examples of docs/clients.md, one for each block of code. */

/** A block of code with what its section says about it. */
export interface Example {
  /** The heading of the section. */
  readonly name: string;
  /** The packages that it needs, as the section says. */
  readonly packages: string;
  readonly language: string;
  readonly code: string;
  /** What it prints, white space as one blank. */
  readonly prints: string;
}

const DEFAULT_PRINTS = 'alice';

/**
 * Reads the examples. A block of the section "Node.js" itself comes before those of its clients. A
 * comment `# prints …` at the end says what an example prints, if that is not the user's name.
 */
export function readExamples(page: string): readonly Example[] {
  let preamble = '';
  return page.split(/^(?=##+ )/m).flatMap((section) => {
    const [, name = ''] = /^##+ (.*)$/m.exec(section) ?? [];
    const [, packages] = /^Package: (.*)$/m.exec(section) ?? [];
    const blocks = [...section.matchAll(/^```(\w+)\n(.*?)^```$/gms)];
    if (packages === undefined) {
      preamble = blocks[0]?.[2] ?? '';
      return [];
    }
    return blocks.map(([, language = '', code = '']) => ({
      name,
      packages,
      language,
      code: language === 'js' ? preamble + code : code,
      prints: /^# prints (.*)$/m.exec(code)?.[1] ?? DEFAULT_PRINTS,
    }));
  });
}
