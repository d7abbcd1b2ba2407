// Reads {"tex": …, "display": …} and answers {"html": …} or {"error": …}, one JSON object a line, until its input ends.
const katex = require("katex");
const readline = require("readline");

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const { tex, display } = JSON.parse(line);
  let answer;
  try {
    // "error" refuses what LaTeX would refuse too; what the notebooks hold must also read well in Jupyter and in Colab.
    answer = { html: katex.renderToString(tex, { displayMode: display, strict: "error", trust: true }) };
  } catch (error) {
    answer = { error: error.message };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
});
