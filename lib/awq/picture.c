/* picture.c -- errors of a quantization, layer by layer, as an SVG. */
#include "awq/picture.h"

#include "base/buf.h"

#include <math.h>

/* Lengths in the SVG's own units. */
#define LEFT 64.0
#define TOP 44.0
#define PLOT_HEIGHT 220.0
#define BOTTOM 44.0
#define PLOT_WIDTH_MIN 320.0
#define PLOT_WIDTH_MAX 1600.0
#define LAYER_WIDTH 28.0

static const char style[] =
    "<style>"
    "text{font:12px system-ui,sans-serif;fill:#24292f}"
    ".title{font-weight:600;font-size:14px}"
    ".grid{stroke:#d0d7de}.axis{stroke:#57606a}"
    ".attn{fill:#0969da}.mlp{fill:#bc4c00}.plain{stroke:#24292f;stroke-width:2}"
    "@media(prefers-color-scheme:dark){"
    "text{fill:#e6edf3}.grid{stroke:#30363d}.axis{stroke:#8b949e}"
    ".attn{fill:#58a6ff}.mlp{fill:#f0883e}.plain{stroke:#e6edf3}}"
    "</style>";

/* The parts of a layer: what the report calls them, and the class of their bars. */
static const struct series {
	const char *error, *plain, *class, *label;
} series[] = {
    {"attn_error", "attn_before", "attn", "attention"},
    {"mlp_error", "mlp_before", "mlp", "MLP"},
};
#define SERIES (sizeof(series) / sizeof(*series))

/* The plot: values from 10^low to 10^high. */
struct plot {
	const json_t *layers;
	size_t count;
	double width, slot; /* of all, of one layer */
	int low, high;
};

/* 0: there is no such number, or it is nothing that a logarithm has. */
static double
value_of(const struct plot *plot, size_t i, const char *key)
{
	double value = json_number_value(json_object_get(json_array_get(plot->layers, i), key));

	return isfinite(value) && value > 0 ? value : 0;
}

static void
fit(struct plot *plot)
{
	double least = INFINITY, most = 0;

	for (size_t i = 0; i < plot->count; i++) {
		for (size_t s = 0; s < SERIES; s++) {
			double both[] = {
			    value_of(plot, i, series[s].error), value_of(plot, i, series[s].plain)};

			for (size_t k = 0; k < 2; k++) {
				if (both[k] > 0 && both[k] < least)
					least = both[k];
				if (both[k] > most)
					most = both[k];
			}
		}
	}
	if (most <= 0)
		least = most = 1;
	plot->low = (int)floor(log10(least) - 0.05);
	plot->high = (int)ceil(log10(most) + 0.05);
}

static double
y_of(const struct plot *plot, double value)
{
	double part = (log10(value) - plot->low) / (plot->high - plot->low);

	return TOP + PLOT_HEIGHT * (1 - part);
}

static void
add_axes(const struct plot *plot, struct sp_buf *out)
{
	size_t step = (plot->count + 19) / 20;
	/* a model whose errors span many decades has a line for some of them */
	int decades = (plot->high - plot->low + 7) / 8;

	for (int p = plot->low; p <= plot->high; p += decades) {
		double y = y_of(plot, pow(10, p));

		sp_buf_printf(out,
		    "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>"
		    "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">1e%d</text>\n",
		    LEFT, y, LEFT + plot->width, y, LEFT - 6, y + 4, p);
	}
	sp_buf_printf(out,
	    "<line class=\"axis\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", LEFT,
	    TOP + PLOT_HEIGHT, LEFT + plot->width, TOP + PLOT_HEIGHT);
	for (size_t i = 0; i < plot->count; i += step)
		sp_buf_printf(out,
		    "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%zu</text>\n",
		    LEFT + plot->slot * ((double)i + 0.5), TOP + PLOT_HEIGHT + 16, i);
	sp_buf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">layer</text>\n",
	    LEFT + plot->width / 2, TOP + PLOT_HEIGHT + 34);
}

static void
add_bar(const struct plot *plot, size_t i, size_t s, struct sp_buf *out)
{
	double error = value_of(plot, i, series[s].error);
	double plain = value_of(plot, i, series[s].plain);
	double width = plot->slot * 0.4;
	double x = LEFT + plot->slot * ((double)i + 0.1) + (double)s * width;

	if (error > 0) {
		double y = y_of(plot, error);

		sp_buf_printf(out,
		    "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\">"
		    "<title>layer %zu, %s: %.3g</title></rect>\n",
		    series[s].class, x, y, width * 0.9, TOP + PLOT_HEIGHT - y, i, series[s].label,
		    error);
	}
	if (plain > 0) {
		double y = y_of(plot, plain);

		sp_buf_printf(out,
		    "<line class=\"plain\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\">"
		    "<title>layer %zu, %s, rounded to nearest: %.3g</title></line>\n",
		    x, y, x + width * 0.9, y, i, series[s].label, plain);
	}
}

static void
add_legend(struct sp_buf *out)
{
	double x = LEFT;

	sp_buf_puts(out, "<text class=\"title\" x=\"8\" y=\"18\">"
			 "Mean squared error of each layer's output</text>\n");
	for (size_t s = 0; s < SERIES; s++) {
		sp_buf_printf(out,
		    "<rect class=\"%s\" x=\"%.1f\" y=\"26\" width=\"10\" height=\"10\"/>"
		    "<text x=\"%.1f\" y=\"35\">%s</text>\n",
		    series[s].class, x, x + 16, series[s].label);
		x += 92;
	}
	sp_buf_printf(out,
	    "<line class=\"plain\" x1=\"%.1f\" y1=\"31\" x2=\"%.1f\" y2=\"31\"/>"
	    "<text x=\"%.1f\" y=\"35\">rounded to nearest</text>\n",
	    x, x + 12, x + 18);
}

char *
sp_picture_draw(const json_t *report, size_t *len)
{
	struct plot plot = {.layers = json_object_get(report, "layers")};
	struct sp_buf out = {0};
	double width, height = TOP + PLOT_HEIGHT + BOTTOM;

	plot.count = json_array_size(plot.layers);
	plot.width = fmin(fmax(LAYER_WIDTH * (double)plot.count, PLOT_WIDTH_MIN), PLOT_WIDTH_MAX);
	plot.slot = plot.width / (plot.count > 0 ? (double)plot.count : 1);
	width = LEFT + plot.width + 16;
	fit(&plot);
	sp_buf_printf(&out,
	    "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 %.0f %.0f\" "
	    "width=\"%.0f\" height=\"%.0f\">\n<title>Mean squared error of each layer's output: "
	    "quantized, and rounded to nearest</title>\n%s\n",
	    width, height, width, height, style);
	add_legend(&out);
	add_axes(&plot, &out);
	for (size_t i = 0; i < plot.count; i++) {
		for (size_t s = 0; s < SERIES; s++)
			add_bar(&plot, i, s, &out);
	}
	sp_buf_puts(&out, "</svg>\n");
	return sp_buf_take(&out, len);
}
