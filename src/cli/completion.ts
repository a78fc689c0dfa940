/**
 * `pgsso completion`: a script for a shell that completes commands, options and their values. It is
 * made of the commands themselves, so it has what `--help` has.
 */
import { Argument, type Command, type Option } from 'commander';

/** The shells. */
const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

const EXAMPLE = `
Example: for this shell, and for later ones
  source <(pgsso completion bash)
  pgsso completion bash > ~/.local/share/bash-completion/completions/pgsso
  pgsso completion zsh > ~/.zfunc/_pgsso
  pgsso completion fish > ~/.config/fish/completions/pgsso.fish
`;

/** Adds the command to the program, behind all others. */
export function addCompletionCommand(program: Command): void {
  program
    .command('completion')
    .description('Print a script with which a shell completes the commands of pgsso.')
    .addArgument(new Argument('<SHELL>', 'the shell').choices(SHELLS))
    .addHelpText('after', EXAMPLE)
    .action((shell: Shell) => {
      process.stdout.write(scripts[shell](places(program)));
    });
}

/** What can follow some words: `settings get` has no more commands, but options. */
interface Place {
  /** The words, such as `settings get`; empty behind `pgsso`. */
  readonly path: string;
  readonly commands: readonly Command[];
  /** With those of the commands before it. */
  readonly options: readonly Option[];
  /** Of its arguments. */
  readonly choices: readonly string[];
}

function places(command: Command, path = '', before: readonly Option[] = []): Place[] {
  const options = [...before, ...command.options.filter(({ long }) => long !== undefined)];
  const choices = command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []);
  const inherited = path === '' ? [] : options;
  return [
    { path, commands: command.commands, options, choices },
    ...command.commands.flatMap((inner) =>
      places(inner, `${path} ${inner.name()}`.trim(), inherited),
    ),
  ];
}

const scripts: Readonly<Record<Shell, (all: readonly Place[]) => string>> = {
  bash: (all) => bash(all),
  // Zsh can run completions that were written for bash.
  zsh: (all) => `#compdef pgsso\nautoload -U +X bashcompinit && bashcompinit\n${bash(all)}`,
  fish,
};

/** The words of a place: commands, options and choices. */
function wordsOf({ commands, options, choices }: Place): string {
  return [
    ...commands.map((command) => command.name()),
    ...choices,
    ...options.map(({ long }) => long),
    ...(choices.length === 0 ? ['--help'] : []),
  ].join(' ');
}

function bash(all: readonly Place[]): string {
  const paths = all
    .filter(({ path }) => path !== '')
    .map(({ path }) => `'${path}'`)
    .join('|');
  const words = all.map((place) => `    '${place.path}') words='${wordsOf(place)}' ;;`);
  const values = [...new Map(withChoices(all).map((option) => [option.long, option])).values()];
  const cases = values.map(
    ({ long, argChoices }) => `    ${long}) words='${(argChoices ?? []).join(' ')}' ;;`,
  );
  return `# bash completion for pgsso
_pgsso() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]} path='' words='' index
  for ((index = 1; index < COMP_CWORD; index++)); do
    case "\${path:+$path }\${COMP_WORDS[index]}" in
    ${paths}) path="\${path:+$path }\${COMP_WORDS[index]}" ;;
    esac
  done
  case $path in
${words.join('\n')}
  esac
  case $before in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _pgsso pgsso
`;
}

/** Options with a fixed list of values. Options of one name have the same values everywhere. */
function withChoices(all: readonly Place[]): Option[] {
  return all.flatMap(({ options }) => options.filter(({ argChoices }) => argChoices));
}

function fish(all: readonly Place[]): string {
  const lines = all.flatMap(({ path, commands, options, choices }) => {
    const others = commands.map((command) => command.name()).join(' ');
    const seen = path
      .split(' ')
      .filter((word) => word !== '')
      .map((word) => `__fish_seen_subcommand_from ${word}`);
    const not = others === '' ? [] : [`not __fish_seen_subcommand_from ${others}`];
    const condition = `-n ${quote([...seen, ...not].join('; and ') || 'true')}`;
    return [
      ...commands.map((command) => `-f ${condition} -a ${command.name()} ${about(command)}`),
      ...choices.map((choice) => `-f ${condition} -a ${choice}`),
      ...options.map((option) => `${condition} ${fishOption(option)}`),
    ];
  });
  const text = lines.map((line) => `complete -c pgsso ${line}\n`).join('');
  return `# fish completion for pgsso\n${text}`;
}

function fishOption({ long = '', required, argChoices, description }: Option): string {
  const values = argChoices ? ` -f -a ${quote(argChoices.join(' '))}` : '';
  return `-l ${long.slice(2)}${required ? ' -r' : ''}${values} -d ${quote(description)}`;
}

function about(command: Command): string {
  return `-d ${quote(command.description())}`;
}

function quote(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}
